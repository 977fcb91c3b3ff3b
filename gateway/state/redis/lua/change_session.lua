-- Replace the record of a session if the owner still has it.
-- Arguments: replica, pid, owner, session.
local value = call('HGET', K.sessions .. ARGV[2], ARGV[3])
if value and parse_session(value) == ARGV[4] then call('HSET', K.sessions .. ARGV[2], ARGV[3], ARGV[5]) end
