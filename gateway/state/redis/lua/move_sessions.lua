-- Move the sessions in use on a replica to a replica name of their own, `<replica>~<now>`, which has no process. Its
-- lease counts as expired at `lease_end` (ms), so the sessions end L.recovery after that.
local function move_sessions(replica, now, lease_end)
  if call('EXISTS', K.sessions .. replica) == 0 then return end
  local former = replica .. '~' .. now
  call('RENAME', K.sessions .. replica, K.sessions .. former)
  call('HSET', K.dead, former, lease_end)
  call('HSET', K.formats, former, 0)
  call('PEXPIRE', K.dead, L.keep)
  call('PEXPIRE', K.formats, L.keep)
end
