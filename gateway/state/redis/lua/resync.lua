-- Read what a replica missed: the entries of the log after the newest of some checkpoints that the log still holds.
-- Arguments: generation, max bytes, the newest position that the replica read from the log itself, how many of the
-- checkpoints follow one another without a gap, checkpoints from new to old …
-- Returns how many checkpoints are lost (-1: this is another log, read from its start; -2: they were trimmed), the
-- generation, the newest position, 1 if there are more entries, and a page: position, record, position, record …
local max_bytes, confirmed, contiguous = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local FIRST_POSITION = 6
local now = now_ms()
local line = call('GET', K.head)
local head = line and parse_head(line) or { generation = '', newest = '0-0', cut = '0-0', cut_entries = '0' }
local log, newest, cut = head.generation, head.newest, head.cut

-- '0-0' is before every position: nothing after it is missing as long as nothing was trimmed.
local function is_held(position)
  if position == '0-0' and head.cut_entries == '0' then return true end
  return position == newest or position == cut or is_after(position, cut) and was_kept(position)
end

-- The oldest of the lost checkpoints. Every entry that the log still holds up to it was in the log at that time, and so
-- was read. A checkpoint in the future proves nothing: any user of Redis may have published it.
local function oldest_lost(number)
  local oldest = is_after(confirmed, cut) and not is_held(confirmed) and confirmed or nil
  for i = FIRST_POSITION, FIRST_POSITION + number - 1 do
    if parse_position(ARGV[i]) <= now and (not oldest or is_after(oldest, ARGV[i])) then oldest = ARGV[i] end
  end
  return oldest
end

local function find_start()
  local start, lost = is_held(confirmed) and confirmed or cut, #ARGV - FIRST_POSITION + 1
  for i = FIRST_POSITION, #ARGV do
    if is_held(ARGV[i]) then
      start, lost = ARGV[i], i - FIRST_POSITION
      if lost < contiguous then return start, lost end
      break
    end
    -- This checkpoint was trimmed: the newest trimmed position is where the rest begins.
    if not is_after(ARGV[i], cut) then return cut, i == FIRST_POSITION and -2 or i - FIRST_POSITION end
  end
  local lost_position = oldest_lost(lost)
  local item = lost_position and call('XREVRANGE', K.log, lost_position, '-', 'COUNT', 1)[1]
  if item and is_after(item[1], start) then start = item[1] end
  return start, lost
end

local from, lost = '0-0', -1
if log == ARGV[2] then from, lost = find_start() end

local page, size, more = {}, 0, false
local last = from
while not more do
  local items = call('XRANGE', K.log, '(' .. last, '+', 'COUNT', 32)
  for _, item in ipairs(items) do
    if size >= max_bytes then
      more = true
      break
    end
    page[#page + 1] = item[1]
    page[#page + 1] = item[2][2]
    size = size + #item[2][2]
    last = item[1]
  end
  if #items < 32 then break end
end
return { lost, log, newest, more and 1 or 0, page }
