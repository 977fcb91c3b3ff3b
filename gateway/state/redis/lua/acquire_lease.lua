-- Take the name of a replica for a process, unless another process uses it: one that has the lease and is subscribed
-- to the channel of the replica. The sessions of an earlier process of that name move to a replica name of their own,
-- where they end by the age of its lease, and its connections may be reaped.
-- Arguments: replica, token of the process, record of a probe without the generation.
-- Returns 'OK', or 'HELD' and the end of the lease.
local replica, now = ARGV[2], now_ms()
local head = read_or_create_head(now)
local lease_end = call('ZSCORE', K.leases, replica)
local holder = string.match(call('HGET', K.holders, replica) or '', '^%S+')
if lease_end and tonumber(lease_end) > now and holder ~= ARGV[3]
  and call('PUBLISH', K.probe .. replica, head.newest .. '\n' .. ARGV[4] .. head.generation) > 0 then
  return { 'HELD', lease_end }
end
local last_lease_end = tonumber(lease_end or call('HGET', K.dead, replica) or now)
call('ZREM', K.leases, replica)
call('HDEL', K.holders, replica)
call('HDEL', K.dead, replica)
call('HDEL', K.formats, replica)
move_sessions(replica, now, math.min(last_lease_end, now))
return { 'OK' }
