-- Say something to oneself, in the same stream as everything else, and hear how the log stands.
-- channel, record of a canary without its end
-- Answers also whether this user may not publish.
local now = now_ms()
local head = read_head(now)
call('PEXPIRE', K.server, L.keep)
-- Whoever may not publish is not away: this is answered, and not heard.
local published = redis.pcall('PUBLISH', ARGV[2], head.newest .. '\n' .. ARGV[3] .. head.log)
return { head.log, head.began, head.newest, now, type(published) == 'table' and 1 or 0 }
