-- Count connections in; a known sid is replaced.
-- replica, then for each: sid, user, what others see of it, everywhere it counts
local replica = ARGV[2]
for i = 3, #ARGV, 4 do
  local sid, user, seen, counted = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local known = call('HGET', K.conns .. replica, sid)
  if known then forget(replica, sid, known, nil) end
  count_in(replica, cjson.decode(counted).at)
  call('HSET', K.conns .. replica, sid, counted)
  call('HSET', K.user .. user, sid, seen)
  call('HDEL', K.user .. user, '')
  call('PEXPIRE', K.user .. user, L.keep)
end
call('PEXPIRE', K.conns .. replica, L.keep)
