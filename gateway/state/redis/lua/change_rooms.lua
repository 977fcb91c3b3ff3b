-- Count a connection at other addresses.
-- Arguments: replica, sid, user and addresses as JSON.
-- Returns 1, or 0 if the connection is not registered.
local replica, sid = ARGV[2], ARGV[3]
local known = call('HGET', K.conns .. replica, sid)
if not known then return 0 end
count_at(replica, cjson.decode(ARGV[4]).at)
uncount_at(replica, cjson.decode(known).at)
call('HSET', K.conns .. replica, sid, ARGV[4])
return 1
