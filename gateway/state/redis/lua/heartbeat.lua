-- Renew the lease of a replica and the TTL of the keys that depend on it.
-- A replica that was dead for longer than sessions are kept takes a new lease, and its sessions end: its connections
-- may have been lost for as long.
-- Arguments: replica, newest record format that it reads, token of the process, its last heartbeat that it knows of
-- (ms, 0 for none).
-- Returns 'HELD' and the end of the lease if it is another process's. Otherwise 'OK', when this lease was taken (a
-- replica that receives another moment than before was reaped in between, however many answers were lost), generation
-- of the log, since when nonces are remembered, now, the oldest and the newest of the formats that replicas read, the
-- living replicas, those to reap, { entries, bytes, when the oldest entry was accepted, nonces }, and whether the
-- sessions of this replica have ended.
local replica, process, now = ARGV[2], ARGV[4], now_ms()
local lease_end = call('ZSCORE', K.leases, replica)
local holder, taken = string.match(call('HGET', K.holders, replica) or '', '^(%S+) (%S+)$')
if holder and holder ~= process and lease_end and tonumber(lease_end) > now then return { 'HELD', lease_end } end

local head = read_head(now)
local last_heartbeat = tonumber(ARGV[5])
local died = math.max(last_heartbeat + L.lease, tonumber(lease_end or 0))
local sessions_ended = last_heartbeat > 0 and now >= died + L.recovery
-- A client that resumes one of them receives session_expired for as long again, from now.
if sessions_ended then move_sessions(replica, now, now - L.recovery) end
if not lease_end or sessions_ended or holder ~= process then
  local time = call('TIME')
  taken = time[1] .. '.' .. time[2]
  call('HSET', K.holders, replica, process .. ' ' .. taken)
end
call('ZADD', K.leases, now + L.lease, replica)
call('HSET', K.formats, replica, ARGV[3])
call('HDEL', K.dead, replica)
for _, key in ipairs({ K.head, K.log, K.segments, K.ids_new, K.ids_old, K.leases, K.holders, K.formats, K.dead,
  K.conns .. replica, K.sessions .. replica }) do
  call('PEXPIRE', key, L.keep)
end

-- A replica whose lease has ended may become reachable again, and read what was written meanwhile. Zero stands for one
-- that will not.
local oldest, newest = tonumber(ARGV[3]), tonumber(ARGV[3])
local formats = call('HGETALL', K.formats)
for i = 2, #formats, 2 do
  local format = tonumber(formats[i])
  if format > 0 then oldest, newest = math.min(oldest, format), math.max(newest, format) end
end
local ended = call('ZRANGEBYSCORE', K.leases, '-inf', now)
for _, each in ipairs(call('HKEYS', K.dead)) do
  ended[#ended + 1] = each
end
local oldest_entry = call('XRANGE', K.log, '-', '+', 'COUNT', 1)[1]
local nonces = 0
for each = math.floor(now / L.nonce_window) - 2, math.floor(now / L.nonce_window) do
  nonces = nonces + call('SCARD', K.nonces .. each)
end
return { 'OK', taken, head.log, head.began, now, oldest, newest, living_replicas(now), ended,
  { head.entries - head.cut_entries, head.bytes - head.cut_bytes,
    oldest_entry and parse_position(oldest_entry[1]) or 0, nonces },
  last_heartbeat > 0 and now >= last_heartbeat + L.lease + L.recovery and 1 or 0 }
