-- The dead letters of a webhook: K.dead_letters has their records by id, and under the empty id what they take (bytes);
-- K.dead_order has their ids by when they were added (µs), each after the one before.

-- What the record of a dead letter holds: that of its notification.
local function record_of(value)
  return string.match(value, '^%d+D\30[^\30]*\30[^\30]*\30[^\30]*\30(.*)$')
end

-- The score that dead letters are too old at.
local function too_old(now)
  return (now - L.dead_age) * 1000
end

local function add_bytes(webhook, change)
  call('HINCRBY', K.dead_letters .. webhook, '', string.format('%d', change))
end

-- Remove a dead letter and return its record; nil if there is none.
local function take_dead(webhook, id)
  local value = id ~= '' and call('HGET', K.dead_letters .. webhook, id)
  if not value then return end
  call('HDEL', K.dead_letters .. webhook, id)
  call('ZREM', K.dead_order .. webhook, id)
  add_bytes(webhook, -size_of(record_of(value)))
  return value
end

-- Add a dead letter; the oldest ones are removed beyond the bounds. One with the same id is replaced.
local function add_dead(webhook, id, value, now)
  local key, order = K.dead_letters .. webhook, K.dead_order .. webhook
  take_dead(webhook, id)
  local newest = call('ZREVRANGEBYSCORE', order, '+inf', '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  local score = math.max(now * 1000, tonumber(newest or 0) + 1)
  call('ZADD', order, string.format('%.0f', score), id)
  call('HSET', key, id, value)
  add_bytes(webhook, size_of(record_of(value)))
  call('PEXPIRE', key, L.dead_age)
  call('PEXPIRE', order, L.dead_age)
  while true do
    local oldest = call('ZRANGEBYSCORE', order, '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if not oldest[1] then return end
    if tonumber(oldest[2]) > too_old(now) and call('ZCARD', order) <= L.dead_letters
      and tonumber(call('HGET', key, '')) <= L.dead_bytes then return end
    take_dead(webhook, oldest[1])
  end
end
