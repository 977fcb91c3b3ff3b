-- A process takes a name, unless another one lives by it: that has the lease, and hears what is said to it. What an earlier
-- process of that name left is dead: its sessions move to a name of their own, where they end by its age, and its
-- connections may be cleaned up.
-- replica, what tells this process from others of that name, record of a canary without its end
-- Answers 'OK', or 'HELD' and the end of the lease.
local replica, now = ARGV[2], now_ms()
local head = read_head(now)
local ends = call('ZSCORE', K.leases, replica)
local holder = string.match(call('HGET', K.holders, replica) or '', '^%S+')
if ends and tonumber(ends) > now and holder ~= ARGV[3]
  and call('PUBLISH', K.probe .. replica, head.newest .. '\n' .. ARGV[4] .. head.log) > 0 then
  return { 'HELD', ends }
end
local score = tonumber(ends or call('HGET', K.dead, replica) or now)
call('ZREM', K.leases, replica)
call('HDEL', K.holders, replica)
call('HDEL', K.dead, replica)
call('HDEL', K.formats, replica)
move_sessions(replica, now, math.min(score, now))
return { 'OK' }
