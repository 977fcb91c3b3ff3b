-- Accept entries, in their order: all of them or none, once for each id, and not after the deadline. Publishing comes
-- last: it alone cannot be taken back, and a script that Redis aborts has published nothing of what it did not finish.
-- Arguments of a plain message, which is one for one address, with a nonce and nothing else that append_entries.lua knows:
--   2 digest of the nonce; 3 when it may be forgotten (ms); 4 when the request was signed (s, or '')
--   5 id of the ingest key; 6 since when nonces are stored, as the replica knows it (s)
--   7 the latest time that the clocks of the replica show (ms)
--   8 the branch of positions: a number below L.branches that another primary does not share
--   9 id; 10 record; 11 bytes of its JSON arguments; 12 pointer to publish instead of a record that is too large for the
--   channels, or ''; 13 address
-- Arguments of any entries:
--   2 user whose tokens are revoked, or token, or ''; 3 when (s), or for a token t and for how long it is kept (ms)
--   4 digest of the nonce, or ''; 5 when it may be forgotten (ms); 6 when the request was signed (s, or '')
--   7 id of the ingest key; 8 since when nonces are stored, as the replica knows it (s)
--   9 the latest time that the clocks of the replica show (ms)
--   10 what equals in a retransmission of the request alone, or ''
--   11 digest of the idempotency key, or ''; 12 fingerprint of the request
--   13 the branch of positions
--   14 place of the first argument for notifications, or ''
--   15 … for each entry: id; record; whether the message is volatile ('1'); bytes of its JSON arguments; bytes of the
--       record; pointer to publish instead of a record that is too large for the channels, or ''; whether the number of
--       connections is exact, as stored in the result ('1'); what is returned beside it: '1' the replicas with
--       connections, '2' the connections at each address, '3' both, else '0'; 4 more if the message is kept for the
--       users at its addresses; number of addresses; the addresses; if it is kept, for how long (ms), and the record of
--       a copy for one connection
--   … form of a wake-up; for each notification: id; webhook; partition; record
-- Returns 'OK' and for each entry position, connections (a text with those at each address, if asked for), recoverable
-- sessions and replicas, or of a kept message how many others were dropped; 'KNOWN' and the results, if some were
-- accepted before; or the code of a rejection, 'QUEUE_FULL' with the webhook.
local now = now_ms()

-- Most calls do not create these functions, which takes time.
local function append_entries(ARGV)
  --#include common
  --#include dedup
  --#include append_entries
end

if #ARGV > 13 then return append_entries(ARGV) end

-- A plain message is accepted here with as few commands as possible. Where anything is unusual, this part has changed
-- nothing, and append_entries does the same in full: it alone rejects.
local function append_unusual()
  local exact, volatile, wants, number_of_addresses = '1', '0', '0', '1'
  return append_entries({
    ARGV[1], '', '', ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], '', '', '', ARGV[8], '',
    ARGV[9], ARGV[10], volatile, ARGV[11], #ARGV[10], ARGV[12], exact, wants, number_of_addresses, ARGV[13],
  })
end

local nonce_digest, ends, signed_at = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local id, record, address = ARGV[9], ARGV[10], ARGV[13]
local state = call('MGET', K.head, K.clock)
if not state[1] then return append_unusual() end
local before_newest, generation, nonces_since, newest_ms, newest_sequence, entries, bytes, between, cut, cut_bytes,
  segment_entries, segment_bytes, segment_at, ids, ids_at = string.match(state[1],
    '^((%S+) (%S+) %S+) (%d+)-(%d+) (%S+) (%S+) ((%S+) %S+ (%S+) (%S+) (%S+) (%S+)) (%S+) (%S+)$')
nonces_since, newest_ms = tonumber(nonces_since), tonumber(newest_ms)
entries, bytes = entries + 1, bytes + #record + L.entry_bytes + L.position_bytes
local window = math.floor(now / L.nonce_window)

-- Whether no rule of check_nonce in dedup.lua, but those that need the store, can reject the nonce. No nonce of a message
-- was stored at a later time than `latest_used`.
local function is_fresh()
  local latest_used = math.max(newest_ms, tonumber(state[2] or 0))
  if ends <= now or ends > now + 2 * L.nonce_window or latest_used >= (window + 1) * L.nonce_window
    or now < latest_used - L.clock_tolerance then return false end
  local age = now / 1000 - nonces_since
  if age < 0 then return false end
  if not signed_at then return true end
  if tonumber(ARGV[6]) ~= nonces_since or age < 2 * L.window and signed_at < nonces_since
    or age < L.window and signed_at > now / 1000 then return false end
  local floor = call('HGET', K.floors, ARGV[5])
  return not floor or signed_at >= tonumber(floor)
end

if now > tonumber(ARGV[1]) or entries == 1 or entries - segment_entries >= L.segment_length
  or bytes - segment_bytes >= L.segment_bytes or now - segment_at >= L.segment_age
  or ids == '0' or tonumber(ids) >= L.ids or now - ids_at >= L.ids_age or not is_fresh() then
  return append_unusual()
end
-- The same as limit_indexes of log.lua looks at.
if L.indexed and entries % 16 == 0 then
  local index_bytes = string.match(call('GET', K.index_state) or '0', '^%S+')
  local first = call('ZRANGEBYSCORE', K.indexed, '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if bytes - cut_bytes + index_bytes > L.history_bytes or first and tonumber(first) <= now - L.age then
    return append_unusual()
  end
end

-- A nonce is rejected before it is used if it ends later than in two windows, so it was not used earlier than that.
local nonces = K.nonces .. window
for each = math.floor(ends / L.nonce_window) - 2, window - 1 do
  if call('SISMEMBER', K.nonces .. each, nonce_digest) == 1 then return append_unusual() end
end
local nonces_in_window = call('SCARD', nonces)
if nonces_in_window == 0 or nonces_in_window >= L.nonces then return append_unusual() end
if call('HGET', K.ids_old, id) then return append_unusual() end

if now <= newest_ms then
  newest_sequence = newest_sequence + 1 + (ARGV[8] - newest_sequence - 1) % L.branches
else
  newest_ms, newest_sequence = now, ARGV[8]
end
local position = newest_ms .. '-' .. newest_sequence

-- The replicas whose lease has not expired, and those whose clients may still resume.
local replicas, living = {}, 0
local since = L.recovery > 0 and now - L.recovery or '(' .. now
local leases = call('ZRANGEBYSCORE', K.leases, since, '+inf', 'WITHSCORES')
for i = #leases - 1, 1, -2 do
  replicas[#replicas + 1] = leases[i]
  if tonumber(leases[i + 1]) > now then living = living + 1 end
end
local connections, recoverable = 0, 0
if L.recovery > 0 then
  local dead = call('HGETALL', K.dead)
  for i = 1, #dead, 2 do
    if tonumber(dead[i + 1]) + L.recovery > now then replicas[#replicas + 1] = dead[i] end
  end
  recoverable = call('ZCOUNT', K.parked .. address, '(' .. now, '+inf')
end
if #replicas > 0 then
  for i, count in ipairs(call('HMGET', K.room .. address, unpack(replicas))) do
    if count then
      if i <= living then connections = connections + count else recoverable = recoverable + count end
    end
  end
end

-- From here on it is written. What turns out to be known, or a new index, is taken back.
local index, length = K.index .. address, 2
if L.indexed then
  length = call('RPUSH', index, position)
  if length == 1 then
    call('UNLINK', index)
    return append_unusual()
  end
end
local result = id .. ' ' .. position .. ' ' .. connections .. (recoverable > 0 and ' 1+' .. recoverable or ' 1') .. ' 0'
local is_new_id = call('HSETNX', K.ids_new, id, result) == 1
if not is_new_id or call('SADD', nonces, nonce_digest) == 0 then
  if is_new_id then call('HDEL', K.ids_new, id) end
  if L.indexed then call('LTRIM', index, 0, -2) end
  return append_unusual()
end
local function trim_address()
  local head = { cut = cut }
  --#include positions
  --#include trim_index
  trim_index(K.index .. address, 15)
end

call('XADD', K.log, position, 'r', record, 's', ARGV[11])
if L.indexed then
  call('PEXPIRE', index, L.age)
  if length % 8 == 0 then trim_address() end
end
call('SET', K.head, before_newest .. ' ' .. position .. ' ' .. entries .. ' ' .. bytes .. ' ' .. between
  .. ' ' .. ids + 1 .. ' ' .. ids_at, 'KEEPTTL')
-- The entry is accepted even if this user of Redis may not publish: replicas notice that by their probes.
local data = position .. '\n' .. (ARGV[12] ~= '' and ARGV[12] or record) .. '\30' .. generation
redis.pcall('PUBLISH', K.channel .. address, data)
return { 'OK', position, connections, recoverable, '' }
