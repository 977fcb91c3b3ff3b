-- Read a page of the connections of a user, or of the members of a room, in the order of their sids.
-- Arguments: 'user' or 'room', user or address, what the public record of a connection has to hold or '', the last sid
-- of the page before or '', how many at most, after how many bytes the page ends.
-- Returns 1 if the list is complete, the last sid that was examined or '' at the end, and the records.
local name, holds, after = ARGV[3], ARGV[4], ARGV[5]
local limit, max_bytes, now = tonumber(ARGV[6]), tonumber(ARGV[7]), now_ms()
local is_room = ARGV[2] == 'room'
local key = is_room and K.members .. name or K.sids .. name

-- Restore K.sids, which a replica of a former release does not write.
local function restore_sids(sids)
  for first = 1, #sids, 500 do
    local rows = {}
    for i = first, math.min(first + 499, #sids) do
      rows[#rows + 1] = 0
      rows[#rows + 1] = sids[i]
    end
    call('ZADD', key, unpack(rows))
  end
  call('PEXPIRE', key, L.keep)
end

-- The order of bytes, as sorted sets have it: Lua compares strings by the locale of the server.
local function is_before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- The sids of a user behind the page before, or nil if a range of K.sids has them.
local function sids_of_user()
  local number = call('HLEN', K.user .. name)
  if number > L.many_sids and call('ZCARD', key) >= number then return nil end
  local known, sids = call('HKEYS', K.user .. name), {}
  if number > L.many_sids then restore_sids(known) end
  for _, sid in ipairs(known) do
    if sid ~= '' and is_before(after, sid) then sids[#sids + 1] = sid end
  end
  table.sort(sids, is_before)
  return sids
end

local sids = not is_room and sids_of_user()
  or call('ZRANGEBYLEX', key, after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, limit + 1)

local function is_anywhere(sid)
  for _, replica in ipairs(call('HKEYS', K.formats)) do
    if call('HEXISTS', K.conns .. replica, sid) == 1 then return true end
  end
end

-- Remove what a replica of a former release left behind.
local function remove_left(sid)
  if is_room and not is_anywhere(sid) or not is_room and call('HEXISTS', K.user .. name, sid) == 0 then
    call('ZREM', key, sid)
  end
end

-- The records are read in parts: each with as many as fit by the mean of those before.
local page, size, last, part = {}, 0, 0, 8
local most = math.min(#sids, limit)
while last < most and size < max_bytes do
  local examined = {}
  for i = last + 1, math.min(last + part, most) do examined[#examined + 1] = sids[i] end
  local found = find_connections(examined, now)
  local records = read_connections(examined, found, not is_room and name)
  for _, sid in ipairs(examined) do
    if size >= max_bytes then break end
    last = last + 1
    local record = records[sid]
    if record then
      size = size + #record[3] + #record[4] + #record[5]
      if holds == '' or string.find(record[3], holds, 1, true) then page[#page + 1] = record end
    elseif not found[sid] then
      remove_left(sid)
    end
  end
  part = math.max(1, math.floor((max_bytes - size) * last / (size + 1)))
end
return { is_complete(), sids[last + 1] and sids[last] or '', page }
