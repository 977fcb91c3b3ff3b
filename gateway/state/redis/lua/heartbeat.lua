-- Renew the lease of a replica and the TTL of the keys that depend on it.
-- A replica whose lease expired longer than L.recovery ago takes a new lease, and its sessions end: its connections may
-- have been lost for as long.
-- Arguments: replica, newest record format that it reads, token of the process, the time of its last heartbeat whose
-- answer it received (ms, 0 for none), '1' if it has a connection whose sid does not begin with `~`, version of its
-- release, a blank and since when its process runs (s).
-- Returns 'HELD' and the end of the lease while another process has the lease. Otherwise:
--   1      'OK'
--   2      when this lease was taken. A replica that receives another time than before was reaped in between, however
--          many answers were lost
--   3      generation of the log
--   4      since when nonces are stored (s)
--   5      now (ms)
--   6, 7   the oldest and the newest of the formats that replicas read
--   8      the living replicas
--   9      the replicas to reap
--   10     { entries, bytes, when the oldest entry was accepted (ms), nonces, parked sessions, their bytes, users with a
--            time of their last connection, users with revoked tokens, rate limiters }
--   11     1 if, with another time at 2, the sessions that the process had at its last heartbeat have ended
--   12     until when a sid that does not begin with `~` may live (ms, 0 if none was ever seen)
local replica, process, now = ARGV[2], ARGV[4], now_ms()
local lease_end = call('ZSCORE', K.leases, replica)
local holder, taken = string.match(call('HGET', K.holders, replica) or '', '^(%S+) (%S+)$')
if holder and holder ~= process and lease_end and tonumber(lease_end) > now then return { 'HELD', lease_end } end

local head = read_or_create_head(now)
local last_heartbeat = tonumber(ARGV[5])
local last_lease_end = math.max(last_heartbeat + L.lease, tonumber(lease_end or 0))
local moves_sessions = last_heartbeat > 0 and now >= last_lease_end + L.recovery
-- Moved with an end of the lease L.recovery ago, they end now. A client that resumes one of them receives
-- session_expired for L.recovery more.
if moves_sessions then move_sessions(replica, now, now - L.recovery) end
if not lease_end or moves_sessions or holder ~= process then
  local time = call('TIME')
  taken = time[1] .. '.' .. time[2]
  call('HSET', K.holders, replica, process .. ' ' .. taken)
end
call('ZADD', K.leases, now + L.lease, replica)
call('HSET', K.formats, replica, ARGV[3])
call('HDEL', K.dead, replica)
call('HSET', K.versions, replica, ARGV[7])
for _, key in ipairs({ K.head, K.log, K.segments, K.ids_new, K.ids_old, K.leases, K.holders, K.formats, K.dead,
  K.versions,
  K.indexed, K.index_state, K.erased, K.rates, K.conns .. replica, K.sessions .. replica }) do
  call('PEXPIRE', key, L.keep)
end

-- A replica whose lease has expired may become reachable again, and read what was written meanwhile: its format counts.
-- Format 0 marks a replica that will not, of which only sessions are left.
local oldest, newest = tonumber(ARGV[3]), tonumber(ARGV[3])
local formats = call('HGETALL', K.formats)
for i = 2, #formats, 2 do
  local format = tonumber(formats[i])
  if format > 0 then oldest, newest = math.min(oldest, format), math.max(newest, format) end
end
-- Sids of the previous release: made by its replicas, kept by connections that are resumed. Without a time, keys of
-- that release may be here: sessions that it parked.
local former_sids = call('GET', K.former_sids)
if oldest < L.tilde_format or ARGV[6] == '1' or not former_sids then
  former_sids = now + L.lease + L.age
  call('SET', K.former_sids, former_sids)
end
call('PEXPIRE', K.former_sids, L.keep)
local to_reap = call('ZRANGEBYSCORE', K.leases, '-inf', now)
for _, each in ipairs(call('HKEYS', K.dead)) do
  to_reap[#to_reap + 1] = each
end
local function count(key)
  return call('ZCOUNT', key, '-inf', '+inf')
end

local oldest_entry = call('XRANGE', K.log, '-', '+', 'COUNT', 1)[1]
local nonces = 0
for each = math.floor(now / L.nonce_window) - 2, math.floor(now / L.nonce_window) do
  nonces = nonces + call('SCARD', K.nonces .. each)
end
-- The last value does not use lease_end: if an earlier execution of this heartbeat moved the sessions and its answer
-- was lost, lease_end is that of the new lease, and the process still has to learn that its sessions have ended.
return { 'OK', taken, head.generation, head.nonces_since, now, oldest, newest, living_replicas(now), to_reap,
  { head.entries - head.cut_entries, head.bytes - head.cut_bytes + read_index_state(),
    oldest_entry and parse_position(oldest_entry[1]) or 0, nonces,
    count(K.left_ends), tonumber(call('GET', K.left_bytes) or 0), count(K.last_seen),
    count(K.revoked_users), count(K.rates), count(K.revoked_tokens),
    tonumber(call('GET', K.kept_bytes) or 0) },
  last_heartbeat > 0 and now >= last_heartbeat + L.lease + L.recovery and 1 or 0,
  tonumber(former_sids) }
