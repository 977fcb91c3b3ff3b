-- Count some recoverable connections at one address in rooms that they join, or no more in those that they leave.
-- Arguments: address; how many at most; the end of the first one (ms), and how many with that end were examined before;
-- '1' to join; position of the change; namespace; rooms that a connection may be in (0: any number); number of addresses
-- whose connections are left out; these; the rooms.
-- Returns the end of the next one and how many with that end were examined; nothing at the end.
local namespace, max_rooms, now = ARGV[8], tonumber(ARGV[9]), now_ms()
local number, from, examined = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local is_join, at = ARGV[6] == '1', ARGV[7]
local first_room = 11 + tonumber(ARGV[10])

local function set_of(list)
  local set = {}
  for _, each in ipairs(list or {}) do set[each] = true end
  return set
end

local function is_excluded(is_at)
  for i = 11, first_room - 1 do
    if is_at[ARGV[i]] then return true end
  end
  return false
end

-- The rooms that a connection does not have yet, or those that it joined before the change.
local function rooms_to_change(known, is_at, is_joined)
  local rooms = {}
  for i = first_room, #ARGV do
    local room = ARGV[i]
    local is_in = is_at[namespace .. ',' .. room]
    local joined_at = known.e and known.e[room] or known.p
    if is_join and not is_in or not is_join and is_in and is_joined[room] and (not joined_at or is_after(at, joined_at))
    then rooms[#rooms + 1] = room end
  end
  return rooms
end

local function join(sid, known, rooms, ends)
  known.e, known.j = known.e or {}, known.j or {}
  for _, room in ipairs(rooms) do
    local address = namespace .. ',' .. room
    known.at[#known.at + 1], known.j[#known.j + 1], known.e[room] = address, room, at
    call('ZADD', K.parked .. address, ends, sid)
    call('PEXPIRE', K.parked .. address, L.recovery)
  end
end

-- The list without some of its members; nil instead of an empty one.
local function without(list, is_removed)
  local rest = {}
  for _, each in ipairs(list or {}) do
    if not is_removed[each] then rest[#rest + 1] = each end
  end
  return #rest > 0 and rest or nil
end

local function leave(sid, known, rooms)
  local addresses = {}
  for _, room in ipairs(rooms) do
    local address = namespace .. ',' .. room
    addresses[#addresses + 1] = address
    call('ZREM', K.parked .. address, sid)
    if known.e then known.e[room] = nil end
  end
  if known.e and not next(known.e) then known.e = nil end
  known.at, known.j = without(known.at, set_of(addresses)), without(known.j, set_of(rooms))
end

local function change(sid, ends)
  local text = call('GET', K.parked_at .. sid)
  local known = text and cjson.decode(text)
  -- A record without a position is one of a former release.
  if not known or not known.p then return end
  local is_at = set_of(known.at)
  if is_excluded(is_at) then return end
  local rooms = rooms_to_change(known, is_at, set_of(known.j))
  if #rooms == 0 then return end
  if not is_join then
    leave(sid, known, rooms)
  -- The namespace and the room of the sid do not count.
  elseif max_rooms == 0 or #known.at - 2 + #rooms <= max_rooms then
    join(sid, known, rooms, ends)
  end
  call('SET', K.parked_at .. sid, cjson.encode(known), 'KEEPTTL')
end

local lowest = from > now and from or '(' .. now
if from <= now then examined = 0 end
local found = call('ZRANGEBYSCORE', K.parked .. ARGV[2], lowest, '+inf', 'WITHSCORES', 'LIMIT', examined, number)
local last = from
for i = 1, #found, 2 do
  local ends = tonumber(found[i + 1])
  examined = ends == last and examined + 1 or 1
  last = ends
  change(found[i], ends)
end
if #found < 2 * number then return {} end
return { last, examined }
