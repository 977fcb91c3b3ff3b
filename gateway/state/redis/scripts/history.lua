-- A page of what went to some addresses after a position.
-- after, max entries, max bytes, addresses …
local after, max_entries, max_bytes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()
local line = call('GET', K.head)
local head = line and parse_head(line) or { newest = '0-0', cut = '0-0', made = now }
local newest, cut = head.newest, head.cut

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
  if after == '0-0' or after == newest then return false end
  if order(after) < head.made then return true end
  return is_after(after, cut) and #call('XRANGE', K.log, after, after) == 0
end

local gap = L.indexed and is_lost() and 'data_lost'
local found, ids = {}, {}
for i = 5, #ARGV do
  local key = K.index .. ARGV[i]
  local length = call('LLEN', key)
  if length > 0 then
    local first = place_after(key, length, after)
    local held = place_after(key, length, cut)
    if held > first and order(call('LINDEX', key, held - 1)) > now - L.age then
      gap = gap or 'history_trimmed'
    end
    for _, id in ipairs(call('LRANGE', key, math.max(first, held), math.max(first, held) + max_entries)) do
      if not found[id] then
        found[id] = true
        ids[#ids + 1] = id
      end
    end
  end
end
table.sort(ids, function(a, b) return is_after(b, a) end)

local page, size, upto, more = {}, 0, newest, false
for _, id in ipairs(ids) do
  local item = call('XRANGE', K.log, id, id)[1]
  if item then
    local record, bytes = item[2][2], tonumber(item[2][4])
    if #page > 0 and (#page >= 2 * max_entries or size + bytes > max_bytes) then
      upto, more = page[#page - 1], true
      break
    end
    page[#page + 1] = id
    page[#page + 1] = record
    size = size + bytes
  end
end
return { upto, more and 1 or 0, gap or '', page }
