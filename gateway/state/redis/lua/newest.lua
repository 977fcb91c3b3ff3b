-- Read the newest messages for an address.
-- Arguments: address, max messages, max bytes
-- Returns the code of a gap or '', and the messages, the newest first: position, record, position, record …
-- There is a gap if an entry for the address is missing that is newer than the oldest of them, or than the log holds if
-- there are no more.
local key, max_messages, max_bytes = K.index .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local MAX_STEPS = 512
local now = now_ms()
local line = call('GET', K.head)
local cut = line and parse_head(line).cut or '0-0'

local page, size, steps = {}, 0, 0
local oldest, is_trimmed, last = '0-0', false, nil
local place = call('LLEN', key)

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
  if steps >= MAX_STEPS and #page > 0 then oldest = page[#page - 1] end
  return steps >= MAX_STEPS
end

local is_full = false
while place > 0 and not is_full do
  local first = math.max(0, place - 128)
  local part = call('LRANGE', key, first, place - 1)
  for i = #part, 1, -1 do
    if part[i] ~= last then
      last = part[i]
      is_full = take(last)
      if is_full then break end
    end
  end
  place = first
end

local marker = call('LINDEX', K.index .. K.losses, -1)
if marker and is_after(marker, oldest) then return { 'data_lost', page } end
local _, dropped = read_index_state()
if oldest == '0-0' and parse_position(dropped) > now - L.age then is_trimmed = true end
return { is_trimmed and 'history_trimmed' or '', page }
