-- A replica stops: from now on nothing of it counts. Whoever cleans up takes out what it still has in the presence, and
-- keeps its sessions for L.recovery, as after a death; but it had no lease that ended, so nobody finds it dead.
-- What another process holds by that name stays.
-- replica, what tells this process from others of that name
local replica, now = ARGV[2], now_ms()
if string.match(call('HGET', K.holders, replica) or ARGV[3], '^%S+') ~= ARGV[3] then return end
call('ZREM', K.leases, replica)
call('HDEL', K.holders, replica)
if call('EXISTS', K.conns .. replica, K.sessions .. replica) > 0 then
  call('HSET', K.dead, replica, now)
  call('PEXPIRE', K.dead, L.keep)
  call('HSET', K.formats, replica, 0)
else
  call('HDEL', K.dead, replica)
  call('HDEL', K.formats, replica)
end
