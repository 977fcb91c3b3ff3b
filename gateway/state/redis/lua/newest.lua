-- Read the newest messages for an address.
-- Arguments: address, max messages, max bytes, the position before which to look, or ''
-- Returns the code of a gap or '', the messages, the newest first: position, record, position, record …; and, without
-- any, the position before which to look next, or '' if there is none.
-- There is a gap if an entry for the address is missing that is newer than the oldest of them, or than the log holds if
-- there are no more.
local key, max_messages, max_bytes = K.index .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local before = ARGV[5]
-- So many entries are read at most, and so many positions: those of erased messages are copies of others (erase.lua).
local MAX_STEPS, MAX_POSITIONS = 512, 4096
local now = now_ms()
local line = call('GET', K.head)
local cut = line and parse_head(line).cut or '0-0'

local page, size, steps = {}, 0, 0
local oldest, is_trimmed, last = '0-0', false, nil
local positions = 0

-- The number of positions of the index that are before another one.
local function count_before(position)
  local low, high = 0, call('LLEN', key)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_after(position, call('LINDEX', key, middle)) then low = middle + 1 else high = middle end
  end
  return low
end

local place = before == '' and call('LLEN', key) or count_before(before)

-- Take the message at a position. Returns whether the page takes no more.
local function take(position)
  if not is_after(position, cut) then
    is_trimmed = parse_position(position) > now - L.age
    return true
  end
  steps = steps + 1
  local item = call('XRANGE', K.log, position, position)[1]
  -- The letter behind the number of its format is that of a message.
  if item and string.byte(item[2][2], 2) == L.message_byte then
    local bytes = tonumber(item[2][4])
    if #page > 0 and (#page >= 2 * max_messages or size + bytes > max_bytes) then
      oldest = page[#page - 1]
      return true
    end
    page[#page + 1] = position
    page[#page + 1] = item[2][2]
    size = size + bytes
  end
  return false
end

local is_full, rest = false, ''
while place > 0 and not is_full do
  if steps >= MAX_STEPS or positions >= MAX_POSITIONS then
    if #page > 0 then oldest = page[#page - 1] else rest = last end
    break
  end
  local first = math.max(0, place - 128)
  local part = call('LRANGE', key, first, place - 1)
  for i = #part, 1, -1 do
    if part[i] ~= last then
      last = part[i]
      is_full = take(last)
      if is_full then break end
    end
  end
  place, positions = first, positions + #part
end

local marker = call('LINDEX', K.index .. K.losses, -1)
if marker and is_after(marker, oldest) then return { 'data_lost', page, rest } end
local _, dropped = read_index_state()
if oldest == '0-0' and parse_position(dropped) > now - L.age then is_trimmed = true end
return { is_trimmed and 'history_trimmed' or '', page, rest }
