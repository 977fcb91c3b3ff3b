-- Read a page of the connections of a user, or of the members of a room, in the order of their sids.
-- Arguments: 'user' or 'room', user or address, what the public record of a connection has to hold or '', the last sid
-- of the page before or '', how many at most, after how many bytes the page ends.
-- Returns 1 if the list is complete, the last sid that was examined or '' at the end, and the records.
local name, holds, after = ARGV[3], ARGV[4], ARGV[5]
local limit, max_bytes, now = tonumber(ARGV[6]), tonumber(ARGV[7]), now_ms()

-- The sids behind the page before, one more than fit in a page if there are.
local function sids_of_user()
  local sids = {}
  for _, sid in ipairs(call('HKEYS', K.user .. name)) do
    if sid ~= '' and sid > after then sids[#sids + 1] = sid end
  end
  table.sort(sids)
  return sids
end

local function is_anywhere(sid)
  for _, replica in ipairs(call('HKEYS', K.formats)) do
    if call('HEXISTS', K.conns .. replica, sid) == 1 then return true end
  end
end

local is_room = ARGV[2] == 'room'
local sids = is_room and call('ZRANGEBYLEX', K.members .. name, after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, limit + 1)
  or sids_of_user()
local examined = {}
for i = 1, math.min(#sids, limit) do examined[i] = sids[i] end
local found, page, size, last = find_connections(examined, now), {}, 0, nil
for i, sid in ipairs(examined) do
  if size >= max_bytes then break end
  last = i
  local each = found[sid]
  local record = each and read_connection(sid, each[1], each[2])
  if record and (holds == '' or string.find(record[3], holds, 1, true)) then
    page[#page + 1] = record
    size = size + #record[4] + #record[5]
  elseif is_room and not each and not is_anywhere(sid) then
    call('ZREM', K.members .. name, sid)
  end
end
return { is_complete(), last and sids[last + 1] and sids[last] or '', page }
