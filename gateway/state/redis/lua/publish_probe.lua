-- Publish a probe to the channel of a replica, in the same stream as all entries.
-- Arguments: channel, record of a probe without the generation.
-- Returns the generation of the log, since when nonces are stored (s), the newest position, now, and 1 if this user of
-- Redis may not publish.
local now = now_ms()
local head = read_or_create_head(now)
call('PEXPIRE', K.server, L.keep)
-- A clock that was set forward has let nonces expire, and one that was set back lets their requests count as new again.
local clock = tonumber(call('GET', K.clock) or now)
if now > clock + 2 * L.nonce_window or now < clock - L.clock_tolerance then begin_nonces(head, now) end
call('SET', K.clock, now, 'PX', L.keep)
-- Without the permission to publish the script still answers: Redis executes commands, and only the probe is missing.
local published = redis.pcall('PUBLISH', ARGV[2], head.newest .. '\n' .. ARGV[3] .. head.generation)
return { head.generation, head.nonces_since, head.newest, now, type(published) == 'table' and 1 or 0 }
