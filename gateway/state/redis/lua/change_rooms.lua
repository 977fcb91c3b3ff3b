-- A connection counts elsewhere now.
-- replica, sid, everywhere it counts
local replica, sid = ARGV[2], ARGV[3]
local known = call('HGET', K.conns .. replica, sid)
if not known then return 0 end
count_in(replica, cjson.decode(ARGV[4]).at)
count_out(replica, cjson.decode(known).at)
call('HSET', K.conns .. replica, sid, ARGV[4])
return 1
