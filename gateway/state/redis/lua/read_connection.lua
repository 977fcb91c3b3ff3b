-- Read a connection.
-- Arguments: sid.
-- Returns its record, or nothing.
local sid, now = ARGV[2], now_ms()
local found = find_connections({ sid }, now)[sid]
return found and read_connection(sid, found[1], found[2])
