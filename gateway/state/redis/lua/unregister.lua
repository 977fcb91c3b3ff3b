-- Unregister connections.
-- Arguments: replica, sids …
local replica, now = ARGV[2], now_ms()
for i = 3, #ARGV do
  local known = call('HGET', K.conns .. replica, ARGV[i])
  if known then remove_connection(replica, ARGV[i], known, now) end
end
