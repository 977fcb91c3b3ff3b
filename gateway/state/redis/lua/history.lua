-- A page of what went to some addresses after a position.
-- after, max entries, max bytes, addresses …
local after, max_entries, max_bytes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()
local line = call('GET', K.head)
local head = line and parse_head(line) or { newest = '0-0', cut = '0-0', made = now }
-- Where there is no log nothing leads further.
local newest, cut = line and head.newest or after, head.cut

-- The first place in a list of rising positions that is after a given one.
local function place_after(key, length, position)
  local low, high = 0, length
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_after(call('LINDEX', key, middle), position) then high = middle else low = middle + 1 end
  end
  return low
end

-- A position that this log never held came from one that is gone, and nobody knows what went with it.
local function is_lost()
  if after == '0-0' or after == head.newest then return false end
  if order(after) < head.made then return true end
  return is_after(after, cut) and #call('XRANGE', K.log, after, after) == 0
end

local gap = L.indexed and is_lost() and 'data_lost'

-- What an index holds from a place on, oldest first, in growing parts: what a page does not need is not fetched.
local function source_at(key, place)
  local part, at, size = {}, 0, 16
  local source = {}
  function source.step()
    at = at + 1
    if at > #part then
      part, at = call('LRANGE', key, place, place + size - 1), 1
      place, size = place + size, math.min(2 * size, 512)
    end
    source.id = part[at]
    if not source.id then return false end
    source.ms, source.sequence = order(source.id)
    return true
  end
  return source
end

-- A heap of them, the one with the oldest head in front: each position is parsed once.
local sources = {}

local function is_older(a, b)
  return a.ms < b.ms or (a.ms == b.ms and a.sequence < b.sequence)
end

local function sink(place)
  local source = sources[place]
  while true do
    local child = 2 * place
    if sources[child + 1] and is_older(sources[child + 1], sources[child]) then child = child + 1 end
    if not sources[child] or not is_older(sources[child], source) then break end
    sources[place], place = sources[child], child
  end
  sources[place] = source
end

for i = 5, #ARGV do
  local key = K.index .. ARGV[i]
  local length = call('LLEN', key)
  if length > 0 then
    local first = place_after(key, length, after)
    if is_after(cut, after) then
      local held = place_after(key, length, cut)
      if held > first and order(call('LINDEX', key, held - 1)) > now - L.age then
        gap = gap or 'history_trimmed'
      end
      first = held
    end
    local source = source_at(key, first)
    if source.step() then sources[#sources + 1] = source end
  end
end
for place = math.floor(#sources / 2), 1, -1 do sink(place) end

-- The next ids, each once.
local last
local function take_ids(number)
  local ids = {}
  while #ids < number and sources[1] do
    local source = sources[1]
    if source.id ~= last then
      last = source.id
      ids[#ids + 1] = last
    end
    if not source.step() then
      sources[1] = sources[#sources]
      sources[#sources] = nil
    end
    if sources[1] then sink(1) end
  end
  return ids
end

-- What the log holds of some ids. While most of what stands between them is asked for too, one range is cheaper.
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

-- Read in growing parts, and not much further than the page goes.
local page, size, upto, more, part = {}, 0, newest, false, 4
while not more do
  local entries = #page / 2
  if entries > 0 then part = math.min(2 * part, 64, 1 + math.floor((max_bytes - size) * entries / math.max(size, 1))) end
  local ids = take_ids(math.max(1, math.min(part, max_entries + 1 - entries)))
  if #ids == 0 then break end
  local items = read_items(ids)
  for _, id in ipairs(ids) do
    local item = items[id]
    if item then
      local record, bytes = item[2], tonumber(item[4])
      if #page > 0 and (#page >= 2 * max_entries or size + bytes > max_bytes) then
        upto, more = page[#page - 1], true
        break
      end
      page[#page + 1] = id
      page[#page + 1] = record
      size = size + bytes
    end
  end
end
return { upto, more and 1 or 0, gap or '', page }
