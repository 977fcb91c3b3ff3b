-- Remove a hundred connections of a replica whose lease has expired. Those with a session count as recoverable.
-- Its sessions stay for RECOVERY_SECONDS after the end of its lease, and for as long again. A replica that reads only
-- an older format than others is remembered while the log holds what it missed: it may become reachable again.
-- Arguments: replica, rules.
-- Returns how many connections are left (-1 if the lease has not expired), and 1 if this was the first call to find it
-- expired.
local replica, now = ARGV[2], now_ms()
use_rules(ARGV[3])

local function reads_older_format(name)
  local format = tonumber(call('HGET', K.formats, name) or 0)
  local formats = call('HGETALL', K.formats)
  for i = 2, #formats, 2 do
    if format > 0 and tonumber(formats[i]) > format then return true end
  end
end

local score = call('ZSCORE', K.leases, replica)
if score then
  if tonumber(score) > now then return { -1, 0 } end
  call('ZREM', K.leases, replica)
  call('HDEL', K.holders, replica)
  call('HDEL', K.versions, replica)
  call('HSET', K.dead, replica, score)
  call('PEXPIRE', K.dead, L.keep)
end
local ended_at = tonumber(score or call('HGET', K.dead, replica) or now)
local found = call('HSCAN', K.conns .. replica, 0, 'COUNT', 100)[2]
for i = 1, #found, 2 do
  local known = found[i + 1]
  local recoverable_until = cjson.decode(known).r and ended_at + L.recovery or nil
  remove_connection(replica, found[i], known, ended_at, recoverable_until, now)
end
local left = call('HLEN', K.conns .. replica)
if left == 0 and now > ended_at + 2 * L.recovery then
  call('UNLINK', K.sessions .. replica)
  if now > ended_at + L.age or not reads_older_format(replica) then
    call('HDEL', K.dead, replica)
    call('HDEL', K.formats, replica)
  end
end
return { left, score and 1 or 0 }
