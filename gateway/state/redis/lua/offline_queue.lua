-- Messages that are kept for users until they are received. An address here is that of a user's room. Its list has the
-- messages, oldest first, and expires with the last of them. A message in it, with blanks between: id; when its time
-- ends (ms); position; bytes of the arguments; the record of a copy. K.kept_sizes counts an expired list until it is
-- swept. A script reads and writes what concerns all users once: the sizes here, which `write_sizes` writes at its end.
local sizes, change = {}, 0
local changed, ends, first_ends, lives = {}, {}, {}, {}

-- Read what is kept at some addresses (bytes).
local function read_sizes(addresses)
  local missing = {}
  for _, address in ipairs(addresses) do
    if sizes[address] == nil then
      missing[#missing + 1], sizes[address] = address, 0
    end
  end
  if #missing == 0 then return end
  for i, bytes in ipairs(call('HMGET', K.kept_sizes, unpack(missing))) do
    sizes[missing[i]] = tonumber(bytes or 0)
  end
end

local function set_size(address, bytes)
  change = change + bytes - sizes[address]
  sizes[address], changed[address] = bytes, true
end

local function write_sizes()
  local kept, gone, exact, earliest = {}, {}, {}, {}
  for address in pairs(changed) do
    if sizes[address] == 0 then
      gone[#gone + 1] = address
    else
      kept[#kept + 1] = address
      kept[#kept + 1] = sizes[address]
      if first_ends[address] then
        exact[#exact + 1] = first_ends[address]
        exact[#exact + 1] = address
      end
      if ends[address] then
        earliest[#earliest + 1] = ends[address]
        earliest[#earliest + 1] = address
      end
    end
  end
  if #kept > 0 then call('HSET', K.kept_sizes, unpack(kept)) end
  if #exact > 0 then call('ZADD', K.kept_users, unpack(exact)) end
  if #earliest > 0 then call('ZADD', K.kept_users, 'LT', unpack(earliest)) end
  if change ~= 0 then call('INCRBY', K.kept_bytes, change) end
  if #gone > 0 then
    call('HDEL', K.kept_sizes, unpack(gone))
    call('ZREM', K.kept_users, unpack(gone))
    -- A connect reads whether anything is kept.
    if call('EXISTS', K.kept_users) == 0 then call('UNLINK', K.kept_bytes, K.kept_sizes) end
  end
  if #earliest > 0 then
    for _, key in ipairs({ K.kept_users, K.kept_sizes, K.kept_bytes }) do call('PEXPIRE', key, L.kept_age) end
  end
end

-- Remove the messages of a user that `goes(id, position)` is true for, and those whose time has ended.
-- Returns how many were examined, and of those that have not ended the positions of the removed ones.
local function remove_messages(address, now, goes)
  local key = K.kept .. address
  local values = call('LRANGE', key, 0, -1)
  local bytes, first, head, others, removed = 0, nil, 0, {}, {}
  for i, value in ipairs(values) do
    local id, text, position = string.match(value, '^(%S+) (%d+) (%S+)')
    local at = tonumber(text)
    local leaves = at > now and goes and goes(id, position)
    if leaves then removed[#removed + 1] = position end
    if at > now and not leaves then
      bytes = bytes + #value + L.kept_entry
      if not first or at < first then first = at end
    elseif not first then
      head = i
    else
      others[#others + 1] = value
    end
  end
  if head == #values then
    if head > 0 then call('UNLINK', key) end
  elseif head > 0 then
    call('LTRIM', key, head, -1)
  end
  for _, value in ipairs(others) do call('LREM', key, 1, value) end
  set_size(address, bytes)
  first_ends[address] = first
  return #values, removed
end

-- Remove what has ended of some users, so that it counts no more; return whether so many more bytes may be kept.
local function has_space(bytes, now)
  local due, examined = call('ZRANGEBYSCORE', K.kept_users, '-inf', now, 'LIMIT', 0, 32), 0
  read_sizes(due)
  for _, address in ipairs(due) do
    if examined >= L.kept then break end
    examined = examined + remove_messages(address, now)
  end
  if tonumber(call('GET', K.kept_bytes) or 0) + change + bytes <= L.offline_bytes then return true end
  write_sizes()
  return false
end

-- The addresses at which a message has ended, maybe; and how many messages this script has examined to find them.
local due, examined_full

local function read_due(now)
  local addresses = {}
  for address in pairs(sizes) do addresses[#addresses + 1] = address end
  due, examined_full = {}, 0
  for i, at in ipairs(call('ZMSCORE', K.kept_users, unpack(addresses))) do
    if at and tonumber(at) <= now then due[addresses[i]] = true end
  end
end

-- Remove the oldest messages of a user who has too many; return how many of them had not ended.
local function drop_oldest(address, length, now)
  local key, dropped = K.kept .. address, 0
  if not due then read_due(now) end
  if due[address] and examined_full < L.kept then
    examined_full = examined_full + remove_messages(address, now)
    length = call('LLEN', key)
  end
  while length > 1 and (length > L.kept or sizes[address] > L.kept_bytes) do
    local oldest = call('LPOP', key)
    if tonumber(string.match(oldest, '^%S+ (%d+)')) > now then dropped = dropped + 1 end
    set_size(address, sizes[address] - #oldest - L.kept_entry)
    length = length - 1
  end
  return dropped
end

-- Keep an entry of append.lua, whose position is assigned, for the users at its addresses; return how many others were
-- removed for it. `read_sizes` comes before, `write_sizes` after the last one.
local function keep_message(entry, now)
  local ttl = tonumber(ARGV[entry.kept_at])
  local value = entry.id .. ' ' .. now + ttl .. ' ' .. entry.position .. ' ' .. entry.argument_bytes
    .. ' ' .. ARGV[entry.kept_at + 1]
  local bytes, dropped = #value + L.kept_entry, 0
  for i = entry.first, entry.last do
    local address = ARGV[i]
    local key = K.kept .. address
    local length = call('RPUSH', key, value)
    if length == 1 then
      call('PEXPIRE', key, ttl)
      set_size(address, bytes)
    else
      if ttl > (lives[address] or 0) then call('PEXPIRE', key, ttl, 'GT') end
      set_size(address, sizes[address] + bytes)
    end
    if ttl > (lives[address] or 0) then lives[address] = ttl end
    if not ends[address] or now + ttl < ends[address] then ends[address] = now + ttl end
    if length > L.kept or sizes[address] > L.kept_bytes then dropped = dropped + drop_oldest(address, length, now) end
  end
  return dropped
end
