-- Replace the socket data of a connection, unless it changed since the caller has read it.
-- Arguments: sid, the version that it has, or 0 for none, the text.
-- Returns 1 if it was replaced, and what the connection has now: version, a blank and the text. Without the connection,
-- nothing.
local sid, expected, now = ARGV[2], tonumber(ARGV[3]), now_ms()
if not find_connections({ sid }, now)[sid] then return {} end
local known = call('GET', K.data .. sid) or '0 {}'
local version = tonumber(string.match(known, '^%d+'))
if version ~= expected then return { 0, known } end
local data = math.max(now, version + 1) .. ' ' .. ARGV[4]
call('SET', K.data .. sid, data, 'PX', L.keep)
return { 1, data }
