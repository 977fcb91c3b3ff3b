-- The records of connections, as lists show them. Only those at living replicas count.

-- Whether lists have everything: a replica of a former release does not write what they are made of.
local function is_complete()
  for _, format in ipairs(call('HVALS', K.formats)) do
    if tonumber(format) > 0 and tonumber(format) < L.listing_format then return 0 end
  end
  return 1
end

-- What is known of some sids: for each its replica and what K.conns has of it, by sid.
local function find_connections(sids, now)
  local found = {}
  if #sids == 0 then return found end
  for _, replica in ipairs(living_replicas(now)) do
    for i, known in ipairs(call('HMGET', K.conns .. replica, unpack(sids))) do
      if known then found[sids[i]] = { replica, known } end
    end
  end
  return found
end

-- The record of a connection: sid, user, public record, what K.conns has, and its socket data; nil if it is being moved
-- to another replica.
local function read_connection(sid, replica, known)
  local user = cjson.decode(known).user
  local record = call('HGET', K.user .. user, sid)
  if not record or string.match(record, '^%S+') ~= replica then return nil end
  return { sid, user, record, known, call('GET', K.data .. sid) or '' }
end
