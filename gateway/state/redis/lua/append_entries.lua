-- Accept any entries (append.lua). ARGV are the arguments in the order that is described there; `now` is known.
local revoked, revoked_at = ARGV[2], ARGV[3]
local nonce_digest, request, idempotency_key, fingerprint = ARGV[4], ARGV[10], ARGV[11], ARGV[12]
local branch = tonumber(ARGV[13])

local head = read_or_create_head(now)

-- The entries that are not known yet, and the results of all: of the others the first ones.
local entries, results, known, keeps = {}, { 'KNOWN' }, 0, false
local at, last_entry = 15, ARGV[14] == '' and #ARGV or tonumber(ARGV[14]) - 1
local given, ids = {}, {}
while at <= last_entry do
  local first = at + 9
  local last = first + tonumber(ARGV[at + 8]) - 1
  local wants, after, kept_at = tonumber(ARGV[at + 7]), last + 1, nil
  if wants >= 4 then wants, after, kept_at = wants - 4, last + 3, last + 1 end
  ids[#ids + 1] = ARGV[at]
  given[#given + 1] = {
    id = ARGV[at], record = ARGV[at + 1], volatile = ARGV[at + 2] == '1', argument_bytes = ARGV[at + 3],
    record_bytes = tonumber(ARGV[at + 4]), pointer = ARGV[at + 5], exact = ARGV[at + 6],
    wants = wants, first = first, last = last, number = #ids + 1, kept_at = kept_at,
  }
  at = after
end
if #ids == 1 then
  results[2] = call('HGET', K.ids_new, ids[1]) or call('HGET', K.ids_old, ids[1])
elseif #ids > 1 then
  -- Two calls for all of a batch: a call costs more than what it looks up.
  local new, old = call('HMGET', K.ids_new, unpack(ids)), call('HMGET', K.ids_old, unpack(ids))
  for i = 1, #ids do results[i + 1] = new[i] or old[i] end
end
for i, entry in ipairs(given) do
  if results[i + 1] then
    known = known + 1
  else
    results[i + 1] = ''
    entries[#entries + 1] = entry
    if entry.kept_at then keeps = true end
  end
end
-- Most pushes have no notifications: they do not create these functions, which takes time.
local function load_queues()
  --#include owners
  --#include queues
  return { sum = queues_of, is_full = is_full, put = put, close = close_queue, wake_owners = wake_owners }
end

-- The notifications that are not known yet. K.ids_new has their ids behind a character that no id of an entry holds.
local notifications
if last_entry < #ARGV then
  notifications = {}
  for i = last_entry + 2, #ARGV, 4 do
    local id = '\30' .. ARGV[i]
    if not (call('HGET', K.ids_new, id) or call('HGET', K.ids_old, id)) then
      notifications[#notifications + 1] = { id = id, webhook = ARGV[i + 1], partition = ARGV[i + 2], record = ARGV[i + 3] }
    end
  end
  if #notifications == 0 then notifications = nil end
end
if #entries == 0 and not notifications then
  -- WAIT waits for what its connection wrote, and the entries may have been written on another one.
  if L.waits then call('PEXPIRE', K.head, L.keep) end
  return results
end
if now > tonumber(ARGV[1]) then return { 'LATE', now } end

--#include log

local function answer_window()
  return math.floor(now / L.answer_window)
end

local function find_result_by_key()
  for each = answer_window() - 4, answer_window() + 1 do
    local value = call('HGET', K.answers .. each, idempotency_key)
    if value then
      local at, result, fingerprint_before = string.match(value, '^(%d+) ([^\n]*)\n(.*)$')
      if now - tonumber(at) < 4 * L.answer_window then return result, fingerprint_before end
    end
  end
end

-- The results in a window of answers: each answer has one, and '+' counts the further ones of answers with several.
local function stored_results(window)
  return call('HLEN', window) + tonumber(call('HGET', window, '+') or 0)
end

-- Large volatile messages are not in the log, whose bounds would cover them: at most those of three windows are kept.
local large_window = K.volatile .. math.floor(now / L.volatile_window)
local large_bytes = 0
for _, entry in ipairs(entries) do
  entry.is_large = entry.volatile and entry.pointer ~= ''
  if entry.is_large then large_bytes = large_bytes + entry.record_bytes end
end
if large_bytes > 0 then
  local volatile_bytes = tonumber(call('HGET', large_window, 'bytes') or 0)
  if volatile_bytes > 0 and volatile_bytes + large_bytes > L.volatile_bytes then return { 'LARGE_FULL' } end
end

local nonces_in_window
if nonce_digest ~= '' then
  local rejection, detail = check_nonce(
    now, head, nonce_digest, tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8], ARGV[9], request
  )
  if rejection and rejection ~= 'RETRANSMITTED' then return { rejection, head.nonces_since, detail or 0 } end
  nonces_in_window = detail
  if idempotency_key ~= '' then
    local first_results, fingerprint_before = find_result_by_key()
    if rejection and not first_results then return { 'REPLAYED' } end
    if first_results then
      if fingerprint_before ~= fingerprint then return { 'CONFLICT' } end
      if not rejection then consume_nonce(now, nonce_digest, nonces_in_window, request) end
      -- The results of several entries are stored one after the other, each of five fields.
      results = { 'KNOWN' }
      for result in string.gmatch(first_results, '%S+ %S+ %S+ %S+ %S+') do
        results[#results + 1] = string.sub(result, 1, -2) .. '1'
      end
      for _, entry in ipairs(entries) do
        if results[entry.number] then store_result(entry.id, results[entry.number]) end
      end
      if notifications then
        for _, each in ipairs(notifications) do store_result(each.id, '') end
      end
      write_head(head)
      return results
    end
    if stored_results(K.answers .. answer_window()) >= L.answers then return { 'ANSWERS_FULL' } end
  end
end

-- What is about to be added to queues, by webhook.
local queueing, queues
if notifications then
  queueing = load_queues()
  queues = queueing.sum(notifications)
  for _, queue in pairs(queues) do
    if queueing.is_full(queue, queue.new_entries, queue.new_bytes) then return { 'QUEUE_FULL', queue.webhook } end
  end
end

-- The same for messages that are kept for users.
local function load_offline_queue()
  --#include offline_queue
  return { read_sizes = read_sizes, has_space = has_space, keep = keep_message, write_sizes = write_sizes }
end
local offline
if keeps then
  offline = load_offline_queue()
  local bytes, addresses = 0, {}
  for _, entry in ipairs(entries) do
    if entry.kept_at then
      bytes = bytes + (entry.last - entry.first + 1) * (#ARGV[entry.kept_at + 1] + L.kept_entry)
      for i = entry.first, entry.last do addresses[#addresses + 1] = ARGV[i] end
    end
  end
  if not offline.has_space(bytes, now) then return { 'OFFLINE_FULL' } end
  offline.read_sizes(addresses)
end

-- Disconnect commands that revoke are rare: a push does not create these functions.
local function revoke()
  local function may_hold(held, max)
    local old = call('ZRANGEBYSCORE', held, '-inf', now, 'LIMIT', 0, 16)
    if #old > 0 then call('ZREM', held, unpack(old)) end
    return call('ZCOUNT', held, '-inf', '+inf') < max or call('ZSCORE', held, revoked)
  end

  local kept = string.match(revoked_at, '^t(%d+)$')
  if kept then
    if not may_hold(K.revoked_tokens, L.revoked_tokens) then return false end
    local ends_before = tonumber(call('ZSCORE', K.revoked_tokens, revoked) or 0)
    local ms = math.max(1, math.min(tonumber(kept), L.revocation), ends_before - now)
    call('SET', K.revoked_token .. revoked, '', 'PX', ms)
    call('ZADD', K.revoked_tokens, now + ms, revoked)
    call('PEXPIRE', K.revoked_tokens, L.revocation)
    return true
  end
  if not may_hold(K.revoked_users, L.revoked_users) then return false end
  call('ZADD', K.revoked_users, now + L.revocation, revoked)
  call('PEXPIRE', K.revoked_users, L.revocation)
  local key, at = K.revoked .. revoked, revoked_at
  local revoked_before = call('GET', key)
  if revoked_before and tonumber(revoked_before) > tonumber(at) then at = revoked_before end
  call('SET', key, at, 'PX', L.revocation)
  return true
end

if revoked ~= '' and not revoke() then return { 'REVOKED_FULL' } end

local replicas, expired = living_replicas(now), expired_replicas(now)

-- The addresses that may have parked sessions, if so many are counted that one call for all of a part costs less than
-- one for each; else nil. Most have none.
local PARKED_PART = 32
local function addresses_with_parked()
  if #entries == 1 or L.recovery == 0 then return nil end
  local may_have, addresses, keys = {}, {}, {}
  local function ask()
    if #keys > 0 and call('EXISTS', unpack(keys)) > 0 then
      for _, address in ipairs(addresses) do may_have[address] = true end
    end
    addresses, keys = {}, {}
  end
  for _, entry in ipairs(entries) do
    for i = entry.first, entry.last do
      addresses[#addresses + 1], keys[#keys + 1] = ARGV[i], K.parked .. ARGV[i]
      if #keys == PARKED_PART then ask() end
    end
  end
  ask()
  return may_have
end
local may_have_parked = addresses_with_parked()

-- The living replicas with a connection at an address of an entry, with a blank between.
local function replicas_with(entry)
  local found, is_found = {}, {}
  if #replicas == 0 then return '' end
  for i = entry.first, entry.last do
    for place, count in ipairs(call('HMGET', K.room .. ARGV[i], unpack(replicas))) do
      local replica = replicas[place]
      if count and tonumber(count) > 0 and not is_found[replica] then
        found[#found + 1], is_found[replica] = replica, true
      end
    end
  end
  return table.concat(found, ' ')
end

-- The results of all entries but the first are stored by one call.
local accepted, further = { 'OK' }, {}
for _, entry in ipairs(entries) do
  local connections, recoverable = 0, 0
  local counts = entry.wants >= 2 and {}
  for i = entry.first, entry.last do
    local count = count_connections(ARGV[i], replicas)
    connections = connections + count
    if not may_have_parked or may_have_parked[ARGV[i]] then
      recoverable = recoverable + count_recoverable(ARGV[i], expired, now)
    elseif #expired > 0 then
      recoverable = recoverable + count_connections(ARGV[i], expired)
    end
    if counts then counts[#counts + 1] = count end
  end
  if not entry.volatile then
    append_to_log(entry)
  elseif entry.is_large then
    call('SET', K.large .. entry.id, entry.record, 'PX', 2 * L.volatile_window)
    call('HINCRBY', large_window, 'bytes', entry.record_bytes)
    call('PEXPIRE', large_window, 2 * L.volatile_window)
  end
  entry.position = head.newest
  accepted[#accepted + 1] = head.newest
  counts = counts and table.concat(counts, ',')
  accepted[#accepted + 1] = counts or connections
  accepted[#accepted + 1] = recoverable
  if entry.kept_at then
    accepted[#accepted + 1] = offline.keep(entry, now)
  else
    accepted[#accepted + 1] = entry.wants % 2 == 1 and replicas_with(entry) or ''
  end
  -- A former release takes "1+2" for a number that is not exact.
  local exact = entry.exact
  if recoverable > 0 or counts then exact = exact .. '+' .. recoverable end
  if counts then exact = exact .. '+' .. counts end
  local result = entry.id .. ' ' .. head.newest .. ' ' .. connections .. ' ' .. exact .. ' 0'
  results[entry.number] = result
  if #accepted == 5 then
    store_result(entry.id, result)
  else
    further[#further + 1] = entry.id
    further[#further + 1] = result
  end
end
if #further > 0 then
  call('HSET', K.ids_new, unpack(further))
  head.ids = head.ids + #further / 2
end
if offline then offline.write_sizes() end
if queues then
  for _, each in ipairs(notifications) do
    queueing.put(queues[each.webhook], each.partition, each.record, now)
    store_result(each.id, '')
  end
  for _, queue in pairs(queues) do queueing.close(queue) end
end
if nonce_digest ~= '' then
  consume_nonce(now, nonce_digest, nonces_in_window, request)
  if idempotency_key ~= '' then
    local key = K.answers .. answer_window()
    call('HSET', key, idempotency_key, now .. ' ' .. table.concat(results, ' ', 2) .. '\n' .. fingerprint)
    if call('HLEN', key) == 1 then call('PEXPIRE', key, 7 * L.answer_window) end
    if #results > 2 then call('HINCRBY', key, '+', #results - 2) end
  end
end
if L.indexed then limit_indexes() end
write_head(head)

for _, entry in ipairs(entries) do
  local data = entry.position .. '\n' .. (entry.pointer ~= '' and entry.pointer or entry.record)
  -- A record begins with the number of its format. In an earlier one a replica lives that reads nothing newer: it knows
  -- no name of the log, and in a database other than 0 it has other channels.
  local is_tagged = string.byte(data, #entry.position + 2) >= L.tagged_byte
  if is_tagged then data = data .. '\30' .. head.generation end
  for i = entry.first, entry.last do
    -- The entry is accepted even if this user of Redis may not publish: replicas notice that by their probes.
    redis.pcall('PUBLISH', K.channel .. ARGV[i], data)
    if not is_tagged and K.channel ~= K.former_channel then redis.pcall('PUBLISH', K.former_channel .. ARGV[i], data) end
  end
end
if queues then
  for _, queue in pairs(queues) do queueing.wake_owners(queue, ARGV[last_entry + 1], head.newest, now) end
end
return known > 0 and results or accepted
