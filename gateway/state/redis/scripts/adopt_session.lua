-- Move a session to a new owner and answer it as it was.
-- replica, pid, user, owner
local own, pid, now = ARGV[2], ARGV[3], now_ms()
local key, value = nil, call('GET', K.left .. pid)
if not value then key, value = find_in_use(pid, own, now) end
if not value then return false end
local _, user, rest = parts(value)
if user ~= ARGV[4] then return false end
if key then call('HDEL', key, pid) else call('DEL', K.left .. pid) end
use(own, pid, ARGV[5] .. '\n' .. user .. '\n' .. rest)
return value
