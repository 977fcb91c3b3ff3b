-- The connection ended for good.
-- replica, pid, owner
local key = K.sessions .. ARGV[2]
local value = call('HGET', key, ARGV[3])
if value and parts(value) == ARGV[4] then call('HDEL', key, ARGV[3]) end
value = find_left(ARGV[3])
if value and parts(value) == ARGV[4] then call('DEL', K.left .. ARGV[3]) end
