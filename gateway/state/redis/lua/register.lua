-- Count connections in; a known sid is replaced. One that stands at two replicas, because it was resumed and the former does
-- not know yet, counts where its session is; where neither has that, at the one that was first and lives. Clocks of
-- replicas do not come into it.
-- replica, then for each: sid, user, what others see of it, everywhere it counts, the pid of its session or ''
-- Answers the sids that count elsewhere.
local replica, now = ARGV[2], now_ms()

local function lives(other)
  local ends = call('ZSCORE', K.leases, other)
  return ends and tonumber(ends) > now
end

local function is_elsewhere(sid, user, pid)
  local other = place_of(call('HGET', K.user .. user, sid))
  if not other or other == replica then return false end
  local known = call('HGET', K.conns .. other, sid)
  if not known then return false end
  if lives(other) and (pid == '' or call('HEXISTS', K.sessions .. replica, pid) == 0) then return true end
  forget(other, sid, known, nil)
  return false
end

local elsewhere = {}
for i = 3, #ARGV, 5 do
  local sid, user, seen, counted, pid = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local known = call('HGET', K.conns .. replica, sid)
  if known then forget(replica, sid, known, nil) end
  if is_elsewhere(sid, user, pid) then
    elsewhere[#elsewhere + 1] = sid
  else
    count_in(replica, cjson.decode(counted).at)
    call('HSET', K.conns .. replica, sid, counted)
    call('HSET', K.user .. user, sid, seen)
    call('HDEL', K.user .. user, '')
    call('PEXPIRE', K.user .. user, L.keep)
  end
end
call('PEXPIRE', K.conns .. replica, L.keep)
return elsewhere
