-- Unregister connections.
-- Arguments: replica, then for each: sid, '1' if its session is parked, so that it counts as recoverable.
local replica, now = ARGV[2], now_ms()
for i = 3, #ARGV, 2 do
  local sid, is_parked = ARGV[i], ARGV[i + 1] == '1'
  local known = call('HGET', K.conns .. replica, sid)
  if known then remove_connection(replica, sid, known, now, is_parked and now + L.recovery or nil, now) end
  if not is_parked then uncount_parked(sid) end
end
