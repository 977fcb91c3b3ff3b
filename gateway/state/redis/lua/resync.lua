-- What a replica missed: everything in the log after the newest of some positions that is still known there.
-- generation, max bytes, the newest position that the log itself told the replica of, how many of the positions
-- follow one another without a gap, positions from new to old …
-- Answers how many of the positions are lost (-1: this is another log, and it is read from its start; -2: they were cut
-- off), the newest position, whether more is left, and a page of it.
local max_bytes, certain, adjoining = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local FIRST_POSITION = 6
local now = now_ms()
local line = call('GET', K.head)
local head = line and parse_head(line) or { log = '', newest = '0-0', cut = '0-0', cut_entries = '0' }
local log, newest, cut = head.log, head.newest, head.cut

-- '0-0' is before everything: nothing after it is missing as long as nothing was cut off.
local function is_held(position)
  if position == '0-0' and head.cut_entries == '0' then return true end
  return position == newest or position == cut or #call('XRANGE', K.log, position, position) == 1
end

-- Of the positions that were lost the oldest: what the log still holds up to there, it held then, and all of that was
-- seen. One in the future may be a lie of somebody on a channel, and tells nothing.
local function lost_from(number)
  local oldest = is_after(certain, cut) and not is_held(certain) and certain or nil
  for i = FIRST_POSITION, FIRST_POSITION + number - 1 do
    if order(ARGV[i]) <= now and (not oldest or is_after(oldest, ARGV[i])) then oldest = ARGV[i] end
  end
  return oldest
end

local function find_place()
  local place, lost = is_held(certain) and certain or cut, #ARGV - FIRST_POSITION + 1
  for i = FIRST_POSITION, #ARGV do
    if is_held(ARGV[i]) then
      place, lost = ARGV[i], i - FIRST_POSITION
      if lost < adjoining then return place, lost end
      break
    end
    -- What was cut off is no longer there; the newest of that still tells where to go on.
    if not is_after(ARGV[i], cut) then return cut, i == FIRST_POSITION and -2 or i - FIRST_POSITION end
  end
  local gone = lost_from(lost)
  local item = gone and call('XREVRANGE', K.log, gone, '-', 'COUNT', 1)[1]
  if item and is_after(item[1], place) then place = item[1] end
  return place, lost
end

local from, lost = '0-0', -1
if log == ARGV[2] then from, lost = find_place() end

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
