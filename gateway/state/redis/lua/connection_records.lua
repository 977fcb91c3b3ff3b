-- The records of connections, as lists show them. Only those at living replicas count.

-- Whether lists have everything: a replica of a former release does not write what they are made of.
local function is_complete()
  for _, format in ipairs(call('HVALS', K.formats)) do
    if tonumber(format) > 0 and tonumber(format) < L.listing_format then return 0 end
  end
  return 1
end

-- What K.conns has of some sids, by sid and replica: two replicas have one that is being moved.
local function find_connections(sids, now)
  local found = {}
  if #sids == 0 then return found end
  for _, replica in ipairs(living_replicas(now)) do
    for i, known in ipairs(call('HMGET', K.conns .. replica, unpack(sids))) do
      if known then
        local at = found[sids[i]] or {}
        found[sids[i]], at[replica] = at, known
      end
    end
  end
  return found
end

-- The user of a connection. A record begins with it; one with an escape is decoded.
local function user_of(known)
  return string.match(known, '^{"user":"([^"\\]*)"') or cjson.decode(known).user
end

-- The records of connections that find_connections returned, by sid: sid, user, public record, what K.conns has, and its
-- socket data. One that was moved to a replica whose lease has expired has none. `user` is that of all of them, if it is known.
local function read_connections(sids, found, user)
  local names, keys, records = {}, {}, {}
  for _, sid in ipairs(sids) do
    if found[sid] then
      names[#names + 1] = sid
      keys[#keys + 1] = K.data .. sid
    end
  end
  if #names == 0 then return records end
  local data, public = call('MGET', unpack(keys)), user and call('HMGET', K.user .. user, unpack(names))
  for i, sid in ipairs(names) do
    local _, any = next(found[sid])
    local of = user or user_of(any)
    local record = public and public[i] or not public and call('HGET', K.user .. of, sid)
    local known = record and found[sid][string.match(record, '^%S+')]
    if known then records[sid] = { sid, of, record, known, data[i] or '' } end
  end
  return records
end
