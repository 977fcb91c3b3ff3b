-- Save sessions of a replica, as save_session does.
-- Arguments: replica, then for each: pid, session.
local own, now = ARGV[2], now_ms()
for i = 3, #ARGV, 2 do save_session(own, ARGV[i], ARGV[i + 1], now) end
