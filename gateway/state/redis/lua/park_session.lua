-- Park a session whose connection was lost. It ends L.recovery after the loss, however late this script is executed.
-- Arguments: replica, pid, owner, when the connection was lost by the clock of Redis (ms).
local key, now = K.sessions .. ARGV[2], now_ms()
local value = call('HGET', key, ARGV[3])
if value and parse_session(value) == ARGV[4] then
  call('HDEL', key, ARGV[3])
  local ends = math.min(tonumber(ARGV[5]), now) + L.recovery
  local kept = ends + L.recovery - now
  if L.recovery > 0 and kept > 0 then call('SET', K.left .. ARGV[3], ends .. '\n' .. value, 'PX', kept) end
end
