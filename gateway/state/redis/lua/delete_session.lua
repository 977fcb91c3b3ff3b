-- Delete a session, in use or parked, if the owner still has it.
-- Arguments: replica, pid, owner.
local key = K.sessions .. ARGV[2]
local value = call('HGET', key, ARGV[3])
if value and parse_session(value) == ARGV[4] then call('HDEL', key, ARGV[3]) end
value = find_parked(ARGV[3])
if value and parse_session(value) == ARGV[4] then call('DEL', K.left .. ARGV[3]) end
