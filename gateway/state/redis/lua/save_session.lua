-- Save sessions of a replica. A known session stays as it is, unless it has the same owner.
-- Arguments: replica, then for each: pid, session.
local own, now = ARGV[2], now_ms()
for i = 3, #ARGV, 2 do
  local pid, session = ARGV[i], ARGV[i + 1]
  local known = call('HGET', K.sessions .. own, pid)
  if known then
    if parse_session(known) == parse_session(session) then call('HSET', K.sessions .. own, pid, session) end
  elseif call('EXISTS', K.left .. pid) == 0 and not find_in_use(pid, own, now) then
    put_in_use(own, pid, session)
  end
end
