-- What a replica missed: everything in the log after the newest of some positions that is still known there.
-- generation, max bytes, positions from new to old …
-- Answers how many of the positions are lost (-1: all, and the log starts over; -2: all were cut off), the newest
-- position, whether more is left, and a page of it.
local max_bytes = tonumber(ARGV[3])
local line = call('GET', K.head)
local head = line and parse_head(line) or { log = '', newest = '0-0', cut = '0-0' }
local log, newest, cut = head.log, head.newest, head.cut

local from, lost = nil, 0
if log == ARGV[2] then
  for i = 4, #ARGV do
    local position = ARGV[i]
    -- What was cut off is no longer there; the newest of that still tells where to go on.
    if position == newest or position == cut or #call('XRANGE', K.log, position, position) == 1 then
      from, lost = position, i - 4
      break
    elseif not is_after(position, cut) then
      from, lost = cut, i == 4 and -2 or i - 4
      break
    end
  end
end
if not from then from, lost = '0-0', -1 end

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
