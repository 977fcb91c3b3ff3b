-- It is now like this, if it is still its owner's.
-- replica, pid, owner, session
local value = call('HGET', K.sessions .. ARGV[2], ARGV[3])
if value and parts(value) == ARGV[4] then call('HSET', K.sessions .. ARGV[2], ARGV[3], ARGV[5]) end
