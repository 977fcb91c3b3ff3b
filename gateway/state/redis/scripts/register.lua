-- Count connections in; a known sid is replaced. One that was resumed here counts no longer where it was before; one that
-- was resumed elsewhere meanwhile counts there.
-- Answers since when each is here, by this clock, because those of the replicas may differ; 0 for one that is elsewhere.
-- replica, then for each: sid, user, since when it is here (0 if it is new), what others see of it, everywhere it counts
local replica, now, answers = ARGV[2], now_ms(), {}

-- Since when a connection is here, once it is no longer elsewhere; 0 if it stays there.
local function take_over(sid, user, since)
  local other, theirs_since = place_of(call('HGET', K.user .. user, sid))
  if not other or other == replica then return since > 0 and since or now end
  if since == 0 then since = math.max(now, theirs_since + 1) end
  if theirs_since > since then return 0 end
  local known = call('HGET', K.conns .. other, sid)
  if known then forget(other, sid, known, nil) end
  return since
end

for i = 3, #ARGV, 5 do
  local sid, user, seen, counted = ARGV[i], ARGV[i + 1], ARGV[i + 3], ARGV[i + 4]
  local known = call('HGET', K.conns .. replica, sid)
  if known then forget(replica, sid, known, nil) end
  local since = take_over(sid, user, tonumber(ARGV[i + 2]))
  answers[#answers + 1] = since
  if since > 0 then
    count_in(replica, cjson.decode(counted).at)
    call('HSET', K.conns .. replica, sid, counted)
    call('HSET', K.user .. user, sid, replica .. ' ' .. since .. ' ' .. seen)
    call('HDEL', K.user .. user, '')
    call('PEXPIRE', K.user .. user, L.keep)
  end
end
call('PEXPIRE', K.conns .. replica, L.keep)
return answers
