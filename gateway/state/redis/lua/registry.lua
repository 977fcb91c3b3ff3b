-- Counting connections. The invariant: the number of a replica at an address equals its connections in K.conns that
-- name the address, whatever was interrupted.

local function count_at(replica, addresses)
  for _, address in ipairs(addresses) do
    call('HINCRBY', K.room .. address, replica, 1)
    call('PEXPIRE', K.room .. address, L.keep)
  end
end

local function uncount_at(replica, addresses)
  for _, address in ipairs(addresses) do
    if call('HINCRBY', K.room .. address, replica, -1) <= 0 then call('HDEL', K.room .. address, replica) end
  end
end

-- The replica of a connection, read from its public record.
local function replica_of(record)
  return string.match(record or '', '^(%S+) ')
end

-- Remove a connection of a replica everywhere. `last_seen` is stored for its user if this was the last connection. The
-- record of a connection that was resumed at another replica stays.
local function remove_connection(replica, sid, known, last_seen)
  local was = cjson.decode(known)
  uncount_at(replica, was.at)
  call('HDEL', K.conns .. replica, sid)
  local key = K.user .. was.user
  if replica_of(call('HGET', key, sid)) ~= replica then return end
  call('HDEL', key, sid)
  if call('HLEN', key) == 0 and last_seen then
    call('HSET', key, '', string.format('%.3f', last_seen / 1000))
    call('PEXPIRE', key, L.last_seen)
  end
end
