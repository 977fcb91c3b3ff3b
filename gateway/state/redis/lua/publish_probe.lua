-- Publish a probe to the channel of a replica, in the same stream as all entries.
-- Arguments: channel, record of a probe without the generation.
-- Returns the generation of the log, since when nonces are remembered, the newest position, now, and 1 if this user of
-- Redis may not publish.
local now = now_ms()
local head = read_head(now)
call('PEXPIRE', K.server, L.keep)
-- A user that may not publish still gets an answer: Redis is not unavailable, only the probe does not arrive.
local published = redis.pcall('PUBLISH', ARGV[2], head.newest .. '\n' .. ARGV[3] .. head.log)
return { head.log, head.began, head.newest, now, type(published) == 'table' and 1 or 0 }
