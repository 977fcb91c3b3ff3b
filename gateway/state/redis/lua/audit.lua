-- Examine the users that are online and were examined least recently. One without a connection at a living replica is
-- absent from now on, unless it is absent already; the connections of a replica whose lease has expired are reaped.
-- Arguments: rules, how many users at most, partitions …
-- Returns how many were examined.
use_rules(ARGV[2])
local limit, now, oldest = tonumber(ARGV[3]), now_ms(), {}
-- Users are spread evenly, so twice the even share of each partition holds nearly all of the oldest.
local share = math.min(limit, 2 * math.ceil(limit / math.max(1, #ARGV - 3)) + 8)

-- A time in the future shows that the clock was set back: without this nothing would be due until it shows that time.
local function in_future(key)
  return call('ZRANGEBYSCORE', key, '(' .. now, '+inf', 'LIMIT', 0, share)
end

for i = 4, #ARGV do
  local partition = ARGV[i]
  for _, user in ipairs(in_future(K.online .. partition)) do add(K.online .. partition, 0, user) end
  for _, user in ipairs(in_future(K.absent .. partition)) do add(K.absent .. partition, now, user) end
  for _, consumer in ipairs(rules.consumers) do
    local changed = K.changed .. consumer .. ':' .. partition
    for _, user in ipairs(in_future(changed)) do
      add(changed, now, user)
      add(K.undelivered .. consumer .. ':' .. partition, now, user)
    end
  end
end

for i = 4, #ARGV do
  local users = call('ZRANGE', K.online .. ARGV[i], 0, share - 1, 'WITHSCORES')
  for place = 1, #users, 2 do
    oldest[#oldest + 1] = { user = users[place], at = tonumber(users[place + 1]), partition = ARGV[i] }
  end
end
table.sort(oldest, function(a, b) return a.at < b.at end)

local function examine(user, partition)
  local known, living, lease_end, places = read_state(user), count_living(user, now)
  local is_online = known and known.state == ONLINE
  if living == 0 and not is_online then
    call('ZREM', K.online .. partition, user)
    return
  end
  add(K.online .. partition, now, user)
  if living > 0 and not is_online then
    restore_online(user, partition, known, places, now)
  elseif living == 0 and lease_end <= now - L.lease then
    if not call('ZSCORE', K.absent .. partition, user) then add(K.absent .. partition, now, user) end
  end
  call('PEXPIRE', K.presence .. user, L.undelivered_keep)
end

local examined = math.min(limit, #oldest)
for place = 1, examined do examine(oldest[place].user, oldest[place].partition) end
return examined
