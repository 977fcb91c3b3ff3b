-- Read a connection.
-- Arguments: sid.
-- Returns its record, or nothing.
local sid, now = ARGV[2], now_ms()
return read_connections({ sid }, find_connections({ sid }, now))[sid]
