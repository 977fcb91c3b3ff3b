-- Accept an entry: all of it or nothing, once for each id, and nothing after the deadline. What cannot be taken back,
-- the channels, comes last: a script that Redis breaks off has told nobody of what it did not finish.
-- id, record, volatile, size, weight, notice or '', exact, revoked user, revoked at,
-- digest of the nonce or '', its end, signed at, digest of the idempotency key or '', fingerprint, addresses …
local id, record, volatile = ARGV[2], ARGV[3], ARGV[4] == '1'
local size, weight, notice, exact = ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]
local revoked, revoked_at = ARGV[9], ARGV[10]
local digest, answer_key, fingerprint = ARGV[11], ARGV[14], ARGV[15]
local FIRST_ADDRESS = 16

local now = now_ms()
local head = read_head(now)

local known = call('HGET', K.ids_new, id) or call('HGET', K.ids_old, id)
if known then return { 'KNOWN', known } end
if now > tonumber(ARGV[1]) then return { 'LATE', now } end

local function remember(receipt)
  -- Two generations: the older one goes once the newer is full or old, so an id is known for at least L.ids or L.ids_age.
  if head.ids >= L.ids or now - head.ids_at >= L.ids_age then
    call('UNLINK', K.ids_old)
    -- The head may outlive it: who counted the ids is not what keeps them.
    if call('EXISTS', K.ids_new) == 1 then call('RENAME', K.ids_new, K.ids_old) end
    head.ids, head.ids_at = 0, now
  end
  call('HSET', K.ids_new, id, receipt)
  head.ids = head.ids + 1
  if head.ids == 1 then call('PEXPIRE', K.ids_new, L.keep) end
end

local function answer_window()
  return math.floor(now / L.answer_window)
end

local function find_answer()
  for each = answer_window() - 4, answer_window() + 1 do
    local value = call('HGET', K.answers .. each, answer_key)
    if value then
      local at, receipt, print = string.match(value, '^(%d+) ([^\n]*)\n(.*)$')
      if now - tonumber(at) < 4 * L.answer_window then return receipt, print end
    end
  end
end

-- Large volatile messages are in no log that would bound them: those of three windows are kept at a time, at most.
local large_window = K.volatile .. math.floor(now / L.volatile_window)
local is_large = volatile and notice ~= ''
if is_large then
  local held = tonumber(call('HGET', large_window, 'bytes') or 0)
  if held > 0 and held + weight > L.volatile_bytes then return { 'LARGE_FULL' } end
end

local spent
if digest ~= '' then
  local refusal
  refusal, spent = refuse_nonce(now, head, digest, tonumber(ARGV[12]), ARGV[13])
  if refusal then return { refusal, head.began } end
  if answer_key ~= '' then
    local receipt, print = find_answer()
    if receipt then
      if print ~= fingerprint then return { 'CONFLICT' } end
      receipt = string.sub(receipt, 1, -2) .. '1'
      spend_nonce(now, digest, spent)
      remember(receipt)
      write_head(head)
      return { 'KNOWN', receipt }
    end
    if call('HLEN', K.answers .. answer_window()) >= L.answers then return { 'ANSWERS_FULL' } end
  end
end

if revoked ~= '' then
  local key, at = K.revoked .. revoked, revoked_at
  local before = call('GET', key)
  if before and tonumber(before) > tonumber(at) then at = before end
  call('SET', key, at, 'PX', L.revocation)
end

local connections = 0
local replicas = living(now)
for i = FIRST_ADDRESS, #ARGV do
  connections = connections + count_at(ARGV[i], replicas)
end

local function close_segment()
  call('RPUSH', K.segments, head.newest .. ' ' .. head.entries .. ' ' .. head.bytes .. ' ' .. now)
  call('PEXPIRE', K.segments, L.keep)
  head.segment_entries, head.segment_bytes, head.segment_at = head.entries, head.bytes, now
  while true do
    local oldest = call('LINDEX', K.segments, 0)
    if not oldest then return end
    local last, entries, bytes, at = string.match(oldest, '^(%S+) (%S+) (%S+) (%S+)$')
    if head.entries - tonumber(entries) < L.history_length and head.bytes - tonumber(bytes) < L.history_bytes
      and now - tonumber(at) < L.age then return end
    local ms, sequence = order(last)
    call('XTRIM', K.log, 'MINID', ms .. '-' .. (sequence + 1))
    call('LPOP', K.segments)
    head.cut, head.cut_entries, head.cut_bytes = last, entries, bytes
  end
end

-- Positions that went to an address; what was cut off the log is kept as the newest of its kind, to tell of the gap.
local function index(name)
  local key = K.index .. name
  local length = call('RPUSH', key, head.newest)
  call('PEXPIRE', key, L.age)
  if length % 32 == 0 then
    local oldest = call('LRANGE', key, 0, 63)
    local drop = 0
    while oldest[drop + 2] and (not is_after(oldest[drop + 2], head.cut) or order(oldest[drop + 1]) <= now - L.age) do
      drop = drop + 1
    end
    if drop > 0 then call('LTRIM', key, drop, -1) end
  end
end

local function keep()
  local ms, sequence = order(head.newest)
  if now > ms then
    -- Like the first: two logs of one millisecond are apart.
    head.newest = now .. '-' .. (head.entries == 0 and tonumber(string.sub(head.log, -3)) * 1000 or 0)
  else
    head.newest = ms .. '-' .. (sequence + 1)
  end
  call('XADD', K.log, head.newest, 'r', record, 's', size)
  if head.entries == 0 then call('PEXPIRE', K.log, L.keep) end
  head.entries, head.bytes = head.entries + 1, head.bytes + weight
  if L.indexed then
    for i = FIRST_ADDRESS, #ARGV do index(ARGV[i]) end
  end
  if head.entries - head.segment_entries >= L.segment_length or head.bytes - head.segment_bytes >= L.segment_bytes
    or now - head.segment_at >= L.segment_age then
    close_segment()
  end
end

if not volatile then
  keep()
elseif is_large then
  call('SET', K.large .. id, record, 'PX', 2 * L.volatile_window)
  call('HINCRBY', large_window, 'bytes', weight)
  call('PEXPIRE', large_window, 2 * L.volatile_window)
end

local receipt = id .. ' ' .. head.newest .. ' ' .. connections .. ' ' .. exact .. ' 0'
if digest ~= '' then
  spend_nonce(now, digest, spent)
  if answer_key ~= '' then
    local key = K.answers .. answer_window()
    call('HSET', key, answer_key, now .. ' ' .. receipt .. '\n' .. fingerprint)
    if call('HLEN', key) == 1 then call('PEXPIRE', key, 7 * L.answer_window) end
  end
end
remember(receipt)
write_head(head)

local data = head.newest .. '\n' .. (notice ~= '' and notice or record)
for i = FIRST_ADDRESS, #ARGV do
  -- It is accepted, also where this user may not publish: then replicas are deaf, and know it by their canaries.
  redis.pcall('PUBLISH', K.channel .. ARGV[i], data)
end
return { 'OK', head.newest, connections }
