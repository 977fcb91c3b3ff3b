-- Move a session to a new owner and answer it as it was, with whether a living replica may believe that it is its own;
-- or why not.
-- replica, pid, user, namespace, owner
local own, pid, now = ARGV[2], ARGV[3], now_ms()
local value, ends = find_left(pid)
local key
if not value then key, value, ends = find_in_use(pid, own, now) end
if not value then return { 'unknown_session' } end
local _, user, namespace, rest = parts(value)
if namespace ~= ARGV[5] then return { 'unknown_session' } end
if user ~= ARGV[4] then return { 'other_user' } end
if ends and now >= ends then return { 'session_expired' } end
if key then call('HDEL', key, pid) else call('DEL', K.left .. pid) end
use(own, pid, ARGV[6] .. '\n' .. user .. '\n' .. namespace .. '\n' .. rest)
return { key and not ends and 'in_use' or 'left', value }
