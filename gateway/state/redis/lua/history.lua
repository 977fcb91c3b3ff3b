-- Read a page of the entries for some addresses after a position.
-- Arguments: position, max entries, max bytes, addresses …
-- Returns where the next page starts, 1 if there are more entries, the code of a gap or '', the page: position, record,
-- position, record …; and 1 if entries after the position are so old that the indexes may not have had them any more.
local after, max_entries, max_bytes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()
local line = call('GET', K.head)
local head = line and parse_head(line) or { newest = '0-0', cut = '0-0', created_at = now }
-- Without a log the next page starts where this one does.
local newest, cut = line and head.newest or after, head.cut

-- The index of the first position in a list of rising positions that is after a given one. Mostly it is near the end, or
-- all positions are after: each call of Redis counts where there are hundreds of lists.
local function first_after(key, length, position)
  if not is_after(call('LINDEX', key, -1), position) then return length end
  if is_after(call('LINDEX', key, 0), position) then return 0 end
  local low, high, step = 1, length - 1, 8
  while high - step > low and is_after(call('LINDEX', key, high - step), position) do
    high, step = high - step, 4 * step
  end
  low = math.max(low, high - step)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_after(call('LINDEX', key, middle), position) then high = middle else low = middle + 1 end
  end
  return low
end

-- Whether the client's position is one that this log never assigned. It was assigned by a log that was lost, and which
-- entries were lost with that log is not known.
local function is_lost()
  if after == '0-0' or after == head.newest then return false end
  if parse_position(after) < head.created_at then return true end
  return is_after(after, cut) and not was_kept(after)
end

local gap = L.indexed and is_lost() and 'data_lost'
-- Which addresses the indexes had that were removed is not known.
local _, dropped = read_index_state()
if is_after(dropped, after) and parse_position(dropped) > now - L.age then gap = gap or 'history_trimmed' end

-- What the script has done, in positions of the indexes that were taken: a page ends after MAX_STEPS, so that no other
-- script waits for long.
local MAX_STEPS = 2048
local steps = 0
-- To pass over so many copies takes as long as a step, and to find the end of a run of them as long as so many steps.
local COPIES_OF_STEP, STEPS_OF_SEARCH, MANY_COPIES = 4, 32, 16

-- Iterate over the positions of an address from an index on, oldest first, each once. They are read in growing parts, so
-- that little is read that the page does not need. Messages that were erased left copies of the position before them
-- (erase.lua): if a part ends with many of one, the next part begins behind all of them.
local function iterate(key, place, length)
  local part, part_length, at, size = {}, 0, 0, 16
  local iterator = {}
  function iterator.step()
    local former, first = iterator.id, at + 1
    at = first
    if former then
      while part[at] == former do at = at + 1 end
      steps = steps + (at - first) / COPIES_OF_STEP
    end
    if at > part_length then
      if place < length and at - first >= MANY_COPIES then
        place = first_after(key, length, former)
        steps = steps + STEPS_OF_SEARCH
      end
      if place >= length then return false end
      part, at = call('LRANGE', key, place, place + size - 1), 1
      part_length, place, size = #part, place + size, math.min(2 * size, 512)
      if part[1] == former and former then return iterator.step() end
    end
    iterator.id = part[at]
    if not iterator.id then return false end
    iterator.ms, iterator.sequence = parse_position(iterator.id)
    return true
  end
  return iterator
end

-- A heap of the iterators, the one with the oldest position first. Each position is parsed once.
local iterators = {}

local function is_older(a, b)
  return a.ms < b.ms or (a.ms == b.ms and a.sequence < b.sequence)
end

local function sift_down(place)
  local iterator = iterators[place]
  while true do
    local child = 2 * place
    if iterators[child + 1] and is_older(iterators[child + 1], iterators[child]) then child = child + 1 end
    if not iterators[child] or not is_older(iterators[child], iterator) then break end
    iterators[place], place = iterators[child], child
  end
  iterators[place] = iterator
end

for i = 5, #ARGV do
  local key = K.index .. ARGV[i]
  local length = call('LLEN', key)
  if length > 0 then
    local first = first_after(key, length, after)
    if is_after(cut, after) then
      local first_held = first_after(key, length, cut)
      if first_held > first and parse_position(call('LINDEX', key, first_held - 1)) > now - L.age then
        gap = gap or 'history_trimmed'
      end
      first = first_held
    end
    local iterator = first < length and iterate(key, first, length)
    if iterator and iterator.step() then iterators[#iterators + 1] = iterator end
  end
end
for place = math.floor(#iterators / 2), 1, -1 do sift_down(place) end

local page, last = {}, nil

-- Take the next positions of all addresses, each once; none if the page has entries and took too many steps. An entry for
-- many of the addresses is in the index of each, so it takes as many steps.
local function take_positions(number)
  local ids = {}
  while #ids < number and iterators[1] and (steps < MAX_STEPS or #page + #ids == 0) do
    local iterator = iterators[1]
    steps = steps + 1
    if iterator.id ~= last then
      last = iterator.id
      ids[#ids + 1] = last
    end
    if not iterator.step() then
      iterators[1] = iterators[#iterators]
      iterators[#iterators] = nil
    end
    if iterators[1] then sift_down(1) end
  end
  return ids
end

-- Read the entries at some positions. One range is cheaper while most entries between them are wanted, too.
local is_dense = true
local function read_items(ids)
  local items, hits = {}, 0
  if is_dense then
    for _, item in ipairs(call('XRANGE', K.log, ids[1], ids[#ids], 'COUNT', #ids)) do items[item[1]] = item[2] end
  end
  for _, id in ipairs(ids) do
    if items[id] then
      hits = hits + 1
    else
      local item = call('XRANGE', K.log, id, id)[1]
      items[id] = item and item[2]
    end
  end
  is_dense = 2 * hits > #ids
  return items
end

-- Read in growing parts, but not much more than the page holds.
local size, next_start, more, part = 0, newest, false, 4
while not more do
  local entries = #page / 2
  if entries > 0 then
    part = math.min(2 * part, 64, 1 + math.floor((max_bytes - size) * entries / math.max(size, 1)))
  end
  local ids = take_positions(math.max(1, math.min(part, max_entries + 1 - entries)))
  if #ids == 0 then
    if iterators[1] then next_start, more = page[#page - 1], true end
    break
  end
  local items = read_items(ids)
  for _, id in ipairs(ids) do
    local item = items[id]
    if item then
      local record, bytes = item[2], tonumber(item[4])
      if #page > 0 and (#page >= 2 * max_entries or size + bytes > max_bytes) then
        next_start, more = page[#page - 1], true
        break
      end
      page[#page + 1] = id
      page[#page + 1] = record
      size = size + bytes
    end
  end
end

-- Whether an entry after the position is older than what the indexes keep.
local function is_too_old()
  if after == '0-0' or parse_position(after) > now - L.age or not is_after(newest, after) then return false end
  local first = not is_after(cut, after) and call('XRANGE', K.log, '(' .. after, '+', 'COUNT', 1)[1]
  return not first or parse_position(first[1]) <= now - L.age
end

return { next_start, more and 1 or 0, gap or '', page, is_too_old() and 1 or 0 }
