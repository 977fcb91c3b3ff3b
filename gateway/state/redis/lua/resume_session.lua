-- Move a session to a new owner.
-- Arguments: replica, pid, user, namespace, owner.
-- Returns the code of a rejection; or 'in_use' if a living replica may still have the connection, otherwise 'left', and
-- the session as it was.
local own, pid, now = ARGV[2], ARGV[3], now_ms()
local value, session_end = find_parked(pid)
local key
if not value then key, value, session_end = find_in_use(pid, own, now) end
if not value then return { 'unknown_session' } end
local _, user, namespace, rest = parse_session(value)
if namespace ~= ARGV[5] then return { 'unknown_session' } end
if user ~= ARGV[4] then return { 'other_user' } end
if session_end and now >= session_end then return { 'session_expired' } end
if key then call('HDEL', key, pid) else remove_parked(pid, value) end
put_in_use(own, pid, ARGV[6] .. '\n' .. user .. '\n' .. namespace .. '\n' .. rest)
return { key and not session_end and 'in_use' or 'left', value }
