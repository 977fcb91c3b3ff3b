-- How connections are counted: the invariant is that a replica's number in a room is that of its connections that
-- name the room, whatever was interrupted.

local function count_in(replica, names)
  for _, name in ipairs(names) do
    call('HINCRBY', K.room .. name, replica, 1)
    call('PEXPIRE', K.room .. name, L.keep)
  end
end

local function count_out(replica, names)
  for _, name in ipairs(names) do
    if call('HINCRBY', K.room .. name, replica, -1) <= 0 then call('HDEL', K.room .. name, replica) end
  end
end

-- The replica that a connection is at, by what others see of it.
local function place_of(seen)
  return string.match(seen or '', '^(%S+) ')
end

-- Take a connection out of everything; `left_at` is what its user was last seen at if it was the last one. One that was
-- resumed at another replica is that one's.
local function forget(replica, sid, known, left_at)
  local was = cjson.decode(known)
  count_out(replica, was.at)
  call('HDEL', K.conns .. replica, sid)
  local key = K.user .. was.user
  if place_of(call('HGET', key, sid)) ~= replica then return end
  call('HDEL', key, sid)
  if call('HLEN', key) == 0 and left_at then
    call('HSET', key, '', string.format('%.3f', left_at / 1000))
    call('PEXPIRE', key, L.last_seen)
  end
end
