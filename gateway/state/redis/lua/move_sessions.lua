-- Move the sessions in use on a replica to a name of their own, which is dead since `died`, so that they end by age.
local function move_sessions(replica, now, died)
  if call('EXISTS', K.sessions .. replica) == 0 then return end
  local former = replica .. '~' .. now
  call('RENAME', K.sessions .. replica, K.sessions .. former)
  call('HSET', K.dead, former, died)
  call('HSET', K.formats, former, 0)
  call('PEXPIRE', K.dead, L.keep)
  call('PEXPIRE', K.formats, L.keep)
end
