-- A process takes a name. What an earlier one of that name left is dead: its sessions move to a name of their own,
-- where they end by its age, and its connections may be cleaned up.
-- replica
local replica, now = ARGV[2], now_ms()
read_head(now)
local score = tonumber(call('ZSCORE', K.leases, replica) or call('HGET', K.dead, replica) or now)
call('ZREM', K.leases, replica)
call('HDEL', K.dead, replica)
if call('EXISTS', K.sessions .. replica) == 1 then
  local former = replica .. '~' .. now
  call('RENAME', K.sessions .. replica, K.sessions .. former)
  call('HSET', K.dead, former, math.min(score, now))
  call('HSET', K.formats, former, 0)
  call('PEXPIRE', K.dead, L.keep)
  call('PEXPIRE', K.formats, L.keep)
end
