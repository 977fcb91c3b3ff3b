-- What a replica had in use moves to a name of its own that is dead since then, where it ends by its age.
local function move_sessions(replica, now, died)
  if call('EXISTS', K.sessions .. replica) == 0 then return end
  local former = replica .. '~' .. now
  call('RENAME', K.sessions .. replica, K.sessions .. former)
  call('HSET', K.dead, former, died)
  call('HSET', K.formats, former, 0)
  call('PEXPIRE', K.dead, L.keep)
  call('PEXPIRE', K.formats, L.keep)
end
