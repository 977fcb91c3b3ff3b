-- Say something to oneself, in the same stream as everything else, and hear how the log stands.
-- channel, record of a canary without its end
local now = now_ms()
local head = read_head(now)
call('PEXPIRE', K.server, L.keep)
call('PUBLISH', ARGV[2], head.newest .. '\n' .. ARGV[3] .. head.log)
return { head.log, head.began, head.newest, now }
