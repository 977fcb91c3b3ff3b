-- Set users offline who have had no connection at a living replica for as long as the rules say.
-- After a time without sweeps Redis was away, or went back to older data: until the replicas have had the time to renew
-- their leases and register their connections again, no user is set offline. The same goes for a loss that a replica
-- has found (touch_users.lua, register_server.lua).
-- Arguments: rules, how many users at most, partitions …
-- Returns how many states changed, and the replicas whose lease has expired.
use_rules(ARGV[2])
local limit, now, changed = tonumber(ARGV[3]), now_ms(), 0
local last, resumed = string.match(call('GET', K.swept) or '', '^(%d+) (%d+)$')
last, resumed = tonumber(last or now), tonumber(resumed or 0)
if now - last > L.sweep_gap then resumed = now end
if resumed > now then resumed = 0 end -- the clock was set back
call('SET', K.swept, now .. ' ' .. resumed, 'PX', L.keep)
local has_resumed = now >= resumed + L.lease

local function set_offline(user, partition, left_at)
  local living, lease_end = count_living(user, now)
  call('ZREM', K.absent .. partition, user)
  if living > 0 then return end
  if lease_end > now - rules.after then
    add(K.absent .. partition, lease_end, user)
    return
  end
  local known = read_state(user)
  if known and known.state ~= OFFLINE then
    known.state, known.since = OFFLINE, math.max(left_at, lease_end)
    change_state(user, partition, known, now)
    changed = changed + 1
  end
end

if math.floor(last / 60000) ~= math.floor(now / 60000) then
  for partition = 0, L.presence_partitions - 1 do
    for _, consumer in ipairs(rules.consumers) do
      call('PEXPIRE', K.undelivered .. consumer .. ':' .. partition, L.undelivered_keep)
      call('PEXPIRE', K.changed .. consumer .. ':' .. partition, L.undelivered_keep)
    end
  end
end

for i = 4, #ARGV do
  local partition = ARGV[i]
  if has_resumed then
    local due = call('ZRANGEBYSCORE', K.absent .. partition, '-inf', now - rules.after, 'WITHSCORES', 'LIMIT', 0, limit)
    limit = limit - #due / 2
    for place = 1, #due, 2 do set_offline(due[place], partition, tonumber(due[place + 1])) end
  end
end
return { changed, has_resumed and call('ZRANGEBYSCORE', K.leases, '-inf', now) or {} }
