-- Keep new sessions of a replica. Known ones stay as they are, but for those of the same owner, who knows best.
-- replica, then for each: pid, session
local own, now = ARGV[2], now_ms()
for i = 3, #ARGV, 2 do
  local pid, session = ARGV[i], ARGV[i + 1]
  local known = call('HGET', K.sessions .. own, pid)
  if known then
    if parts(known) == parts(session) then call('HSET', K.sessions .. own, pid, session) end
  elseif call('EXISTS', K.left .. pid) == 0 and not find_in_use(pid, own, now) then
    use(own, pid, session)
  end
end
