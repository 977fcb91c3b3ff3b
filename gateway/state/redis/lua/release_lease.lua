-- Release the lease of a replica that stops. From now on none of its connections count. Other replicas remove what it
-- still has in presence and keep its sessions for L.recovery, as after an expired lease; but they do not report it as
-- reaped, because no lease of it expires. The lease of another process of that name stays.
-- Arguments: replica, token of the process.
local replica, now = ARGV[2], now_ms()
if string.match(call('HGET', K.holders, replica) or ARGV[3], '^%S+') ~= ARGV[3] then return end
call('ZREM', K.leases, replica)
call('HDEL', K.holders, replica)
call('HDEL', K.versions, replica)
if call('EXISTS', K.conns .. replica, K.sessions .. replica) > 0 then
  call('HSET', K.dead, replica, now)
  call('PEXPIRE', K.dead, L.keep)
  call('HSET', K.formats, replica, 0)
else
  call('HDEL', K.dead, replica)
  call('HDEL', K.formats, replica)
end
