-- Counting connections. The invariant: the number of a replica at an address equals its connections in K.conns that
-- name the address, whatever was interrupted.

-- The room of an address that lists show; nil for a namespace and for the room of a sid.
local function listed_room(address, namespace, sid)
  local room = string.sub(address, #namespace + 2)
  if room ~= '' and room ~= sid and string.byte(room) ~= 126 then return room end
end

-- K.rooms has a room as long as its hash exists. `rows` are rooms to add, each behind its score; at most so many.
local MAX_ROWS = 500


-- Remove the rooms whose hash does not exist; most often that is so for all of them.
local function remove_rooms(namespace, rows, keys)
  if call('EXISTS', unpack(keys)) > 0 then
    local empty = {}
    for place, key in ipairs(keys) do
      if call('EXISTS', key) == 0 then empty[#empty + 1] = rows[place] end
    end
    rows = empty
  end
  if #rows > 0 then call('ZREM', K.rooms .. namespace, unpack(rows)) end
end

-- All addresses are of one namespace, which is the first of a connection. The TTL of a key is set when a replica has its
-- first connection there: from then on the replica renews it (refresh_ttl.lua).
local function count_at(replica, sid, addresses)
  local namespace, rows, is_first = string.match(addresses[1] or '', '^[^,]*'), {}, false
  for place, address in ipairs(addresses) do
    local key = K.room .. address
    if call('HINCRBY', key, replica, 1) == 1 then
      call('PEXPIRE', key, L.keep)
      is_first = is_first or place == 1
      local room = listed_room(address, namespace, sid)
      if room then
        rows[#rows + 1] = 0
        rows[#rows + 1] = room
        if #rows >= MAX_ROWS then
          call('ZADD', K.rooms .. namespace, unpack(rows))
          rows = {}
        end
      end
    end
  end
  if #rows > 0 then call('ZADD', K.rooms .. namespace, unpack(rows)) end
  if is_first then call('PEXPIRE', K.rooms .. namespace, L.keep) end
  return is_first
end

local function uncount_at(replica, sid, addresses)
  local namespace, rows, keys = string.match(addresses[1] or '', '^[^,]*'), {}, {}
  for _, address in ipairs(addresses) do
    local key = K.room .. address
    if call('HINCRBY', key, replica, -1) <= 0 then
      call('HDEL', key, replica)
      local room = listed_room(address, namespace, sid)
      if room then
        rows[#rows + 1] = room
        keys[#keys + 1] = key
        if #rows >= MAX_ROWS then
          remove_rooms(namespace, rows, keys)
          rows, keys = {}, {}
        end
      end
    end
  end
  if #rows > 0 then remove_rooms(namespace, rows, keys) end
end

-- Add a connection to the members of the rooms whose rule lists them, or remove it. K.members has each sid once, and
-- K.room_users of each user how many of these sids.
local function add_member(sid, user, addresses)
  if not addresses then return end
  for _, address in ipairs(addresses) do
    if call('ZADD', K.members .. address, 0, sid) == 1 then call('HINCRBY', K.room_users .. address, user, 1) end
    call('PEXPIRE', K.members .. address, L.keep)
    call('PEXPIRE', K.room_users .. address, L.keep)
  end
end

local function remove_member(sid, user, addresses)
  if not addresses then return end
  for _, address in ipairs(addresses) do
    if call('ZREM', K.members .. address, sid) == 1
      and call('HINCRBY', K.room_users .. address, user, -1) <= 0 then
      call('HDEL', K.room_users .. address, user)
    end
  end
end

local function change_member(sid, was, is)
  if not (was.m or is.m) then return end
  remove_member(sid, was.user, was.m)
  add_member(sid, is.user, is.m)
end

-- K.sids has the sids of a user with more than L.many_sids connections, so that lists read them in pages.
local function add_sid(user, sid, is_new)
  local key = K.sids .. user
  if is_new then
    call('UNLINK', key)
    for _, each in ipairs(call('HKEYS', K.user .. user)) do
      if each ~= '' then call('ZADD', key, 0, each) end
    end
  else
    call('ZADD', key, 0, sid)
  end
  call('PEXPIRE', key, L.keep)
end

-- `left` connections are left.
local function remove_sid(user, sid, left)
  if left > L.many_sids then
    call('ZREM', K.sids .. user, sid)
  elseif left == L.many_sids then
    call('UNLINK', K.sids .. user)
  end
end

-- The replica of a connection, read from its public record.
local function replica_of(record)
  return string.match(record or '', '^(%S+) ')
end

-- The indexes of a session that may be resumed: one for each address where its connection counted, and one of its user.
-- Addresses begin with a slash.
local function parked_indexes(was)
  local keys = { K.parked .. 'u:' .. was.user }
  for _, address in ipairs(was.at) do keys[#keys + 1] = K.parked .. address end
  return keys
end

-- Count a connection that is gone as recoverable until `ends` (ms).
local function count_parked(sid, known, ends, now)
  if ends <= now then return end
  for _, key in ipairs(parked_indexes(cjson.decode(known))) do
    call('ZREMRANGEBYSCORE', key, '-inf', now)
    call('ZADD', key, ends, sid)
    call('PEXPIRE', key, L.recovery)
  end
  call('SET', K.parked_at .. sid, known, 'PX', ends - now)
end

-- Count a connection as recoverable no more: it was resumed, or its session was deleted. Return whether it counted.
local function uncount_parked(sid)
  local known = call('GET', K.parked_at .. sid)
  if not known then return false end
  for _, key in ipairs(parked_indexes(cjson.decode(known))) do call('ZREM', key, sid) end
  call('DEL', K.parked_at .. sid)
  return true
end

-- Keep the time of a user's last connection, and those of others within their number: the oldest are removed.
local function limit_last_seen(user, last_seen)
  call('ZADD', K.last_seen, last_seen, user)
  call('PEXPIRE', K.last_seen, L.last_seen)
  local oldest = call('ZRANGE', K.last_seen, 0, 1, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    local is_old = tonumber(oldest[i + 1]) <= last_seen - L.last_seen
    if not is_old and call('ZCARD', K.last_seen) <= L.last_seen_users then return end
    call('ZREM', K.last_seen, oldest[i])
    call('HDEL', K.user .. oldest[i], '')
  end
end

-- Remove a connection of a replica everywhere. `last_seen` is stored for its user if this was the last connection. The
-- record of a connection that was resumed at another replica stays. Otherwise the connection counts as recoverable until
-- `recoverable_until` (ms), if that is not nil. Without `last_seen` it is about to be registered again, and its entry in
-- the list of its namespace stays, and so does its socket data; that of a recoverable connection ends with it.
-- Returns the namespace in whose list it was, and its user.
local function remove_connection(replica, sid, known, last_seen, recoverable_until, now)
  local was = cjson.decode(known)
  uncount_at(replica, sid, was.at)
  call('HDEL', K.conns .. replica, sid)
  local key = K.user .. was.user
  local counts_at = replica_of(call('HGET', key, sid))
  if not counts_at or counts_at == replica then remove_member(sid, was.user, was.m) end
  if counts_at ~= replica then return was.l, was.user end
  call('HDEL', key, sid)
  if recoverable_until then
    call('PEXPIRE', K.data .. sid, recoverable_until - now)
  elseif last_seen then
    call('UNLINK', K.data .. sid)
  end
  if was.l and last_seen then remove_listed(was.l, sid, now) end
  if recoverable_until then count_parked(sid, known, recoverable_until, now) end
  local left = call('HLEN', key)
  if left > 0 then
    if left >= L.many_sids then remove_sid(was.user, sid, left) end
    return was.l, was.user
  end
  call('ZREM', K.users, was.user)
  if last_seen then
    call('HSET', key, '', string.format('%.3f', last_seen / 1000))
    call('PEXPIRE', key, L.last_seen)
    limit_last_seen(was.user, last_seen)
    if rules then user_left(was.user, last_seen) end
  end
  return was.l, was.user
end
