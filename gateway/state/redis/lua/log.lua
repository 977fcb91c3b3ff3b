-- Append to the log and its indexes, and store results. It needs `now`, `head` and `branch` (append.lua).

local function store_result(id, result)
  -- Two generations: the older one is dropped once the newer is full or old, so an id is known for at least L.ids
  -- entries or L.ids_age.
  if head.ids >= L.ids or now - head.ids_at >= L.ids_age then
    call('UNLINK', K.ids_old)
    -- The head counts the ids and may outlive their key.
    if call('EXISTS', K.ids_new) == 1 then call('RENAME', K.ids_new, K.ids_old) end
    head.ids, head.ids_at = 0, now
  end
  call('HSET', K.ids_new, id, result)
  head.ids = head.ids + 1
  if head.ids == 1 then call('PEXPIRE', K.ids_new, L.keep) end
end

-- Remove the oldest segment from the log.
local function trim_segment()
  local last, entries, bytes = string.match(call('LPOP', K.segments), '^(%S+) (%S+) (%S+)')
  local ms, sequence = parse_position(last)
  call('XTRIM', K.log, 'MINID', ms .. '-' .. (sequence + 1))
  call('ZREMRANGEBYSCORE', K.erased, '-inf', '(' .. ms)
  head.cut, head.cut_entries, head.cut_bytes = last, entries, bytes
end

local function close_segment()
  call('RPUSH', K.segments, head.newest .. ' ' .. head.entries .. ' ' .. head.bytes .. ' ' .. now)
  call('PEXPIRE', K.segments, L.keep)
  head.segment_entries, head.segment_bytes, head.segment_at = head.entries, head.bytes, now
  while true do
    local oldest = call('LINDEX', K.segments, 0)
    if not oldest then return end
    local entries, bytes, at = string.match(oldest, '^%S+ (%S+) (%S+) (%S+)$')
    if head.entries - tonumber(entries) < L.history_length and head.bytes - tonumber(bytes) < L.history_bytes
      and now - tonumber(at) < L.age then return end
    trim_segment()
  end
end

-- How many indexes this script created, by how much that and removing others changed what all take, and the state of
-- the indexes before, once it is read.
local created, index_change = 0, 0
local index_bytes, dropped

local function count_index(address, change)
  index_change = index_change + change * (2 * #address + L.index_bytes)
end

--#include trim_index

local function count_new_index(address)
  if address ~= K.losses and call('ZADD', K.indexed, 'NX', (parse_position(head.newest)), address) == 1 then
    created = created + 1
    count_index(address, 1)
  end
end

-- Add the newest position to the index of an address.
local function add_to_index(address)
  local key = K.index .. address
  local length = call('RPUSH', key, head.newest)
  call('PEXPIRE', key, L.age)
  if length == 1 then count_new_index(address) end
  if length % 8 == 0 then trim_index(key, 15) end
end

-- The same for the last positions, the newest of which is that of the log.
local function add_all_to_index(address, positions)
  local key = K.index .. address
  local length = call('RPUSH', key, unpack(positions))
  call('PEXPIRE', key, L.age)
  if length == #positions then count_new_index(address) end
  trim_index(key, #positions + 15)
end

local function takes_too_much()
  return head.bytes - head.cut_bytes + index_bytes + index_change > L.history_bytes
end

-- Whether each replica knows K.index_state, and so notices that an index is missing.
local function may_drop()
  for _, format in ipairs(call('HVALS', K.formats)) do
    if tonumber(format) > 0 and tonumber(format) < L.index_format then return false end
  end
  return true
end

-- Examine some indexes, those that were written least recently first. One whose positions are all old is removed. So is
-- one whose positions were all trimmed from the log, if log and indexes together take too much.
-- Returns whether the log holds an entry for the first index that was not removed.
local function sweep_indexes(number)
  local oldest = call('ZRANGEBYSCORE', K.indexed, '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, number)
  local removed, keys = {}, {}
  local is_held, drops = #oldest == 0, nil
  for i = 1, #oldest, 2 do
    local address, at = oldest[i], tonumber(oldest[i + 1])
    local is_old = at <= now - L.age
    if not is_old and not takes_too_much() then break end
    local newest = call('LINDEX', K.index .. address, -1)
    local newest_ms = newest and parse_position(newest) or 0
    if newest_ms > at then
      call('ZADD', K.indexed, newest_ms, address)
    else
      if not is_old and newest then
        is_held = is_after(newest, head.cut)
        if drops == nil then drops = may_drop() end
        if is_held or not drops then break end
        if is_after(newest, dropped) then dropped = newest end
      end
      removed[#removed + 1], keys[#keys + 1] = address, K.index .. address
      count_index(address, -1)
    end
  end
  if #removed > 0 then
    call('UNLINK', unpack(keys))
    call('ZREM', K.indexed, unpack(removed))
  end
  return is_held
end

-- A script that creates indexes examines more than it creates.
local function limit_indexes()
  if created == 0 and head.entries % 16 > 0 then return end
  index_bytes, dropped = read_index_state()
  local first = call('ZRANGEBYSCORE', K.indexed, '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if takes_too_much() or first and tonumber(first) <= now - L.age then
    local is_held = sweep_indexes(created + 48)
    if is_held and takes_too_much() and call('LLEN', K.segments) > 0 then trim_segment() end
  end
  if index_change ~= 0 then
    if index_bytes == 0 then call('PEXPIRE', K.indexed, L.keep) end
    call('SET', K.index_state, index_bytes + index_change .. ' ' .. dropped, 'PX', L.keep)
  end
end

-- The position after the newest one. Two primaries that accept entries in the same millisecond assign different
-- positions: the remainder of the sequence is their branch.
local newest_ms, newest_sequence = parse_position(head.newest)
local function next_position()
  if now <= newest_ms then
    newest_sequence = newest_sequence + 1 + (branch - newest_sequence - 1) % L.branches
  else
    -- The first position of a log, like its start, differs from that of another log of the same millisecond.
    local first = head.entries == 0 and tonumber(string.sub(head.generation, -3)) * L.branches or 0
    newest_ms, newest_sequence = now, first + branch
  end
  return newest_ms .. '-' .. newest_sequence
end

-- Append an entry for the addresses ARGV[entry.first] to ARGV[entry.last]. With a list of positions the new one is added
-- to that, and not to the indexes.
local function append_to_log(entry, positions)
  head.newest = next_position()
  call('XADD', K.log, head.newest, 'r', entry.record, 's', entry.argument_bytes)
  if head.entries == 0 then call('PEXPIRE', K.log, L.keep) end
  head.entries = head.entries + 1
  head.bytes = head.bytes + entry.record_bytes + L.entry_bytes + (entry.last - entry.first + 1) * L.position_bytes
  if positions then
    positions[#positions + 1] = head.newest
  elseif L.indexed then
    for i = entry.first, entry.last do add_to_index(ARGV[i]) end
  end
  if head.entries - head.segment_entries >= L.segment_length or head.bytes - head.segment_bytes >= L.segment_bytes
    or now - head.segment_at >= L.segment_age then
    close_segment()
  end
end
