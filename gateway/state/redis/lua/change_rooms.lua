-- Count a connection at other addresses.
-- Arguments: replica, rules, sid, user and addresses as JSON.
-- Returns 1, or 0 if the connection is not registered.
local replica, sid = ARGV[2], ARGV[4]
local known = call('HGET', K.conns .. replica, sid)
if not known then return 0 end
local is, was = cjson.decode(ARGV[5]), cjson.decode(known)
count_at(replica, sid, is.at)
uncount_at(replica, sid, was.at)
change_member(sid, was, is)
call('HSET', K.conns .. replica, sid, ARGV[5])
if ARGV[3] ~= '' then user_moved(is.user, sid, is.at) end
return 1
