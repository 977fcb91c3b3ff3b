-- A session is stored as text: its owner, its user, its namespace and the rest, each on a line; the rest may have
-- several lines. The owner names the connect attempt that owns the session. A parked session has a line before these:
-- when it ends (ms). It is kept for L.recovery more, to answer a late client with session_expired.

-- The owner, user, namespace and rest of a session.
local function parse_session(value)
  return string.match(value, '^([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
end

-- A session with another position at which its connection was lost, as the last field of its record: the generation of
-- the log and the newest position that its replica had read. '' removes the field.
local function with_left_at(value, left_at)
  if string.sub(value, -1) ~= '}' then return value end
  value = string.gsub(value, ',"n":"[^"]*"}$', '}')
  return left_at == '' and value or string.sub(value, 1, -2) .. ',"n":"' .. left_at .. '"}'
end

-- A parked session, and when it ends.
local function find_parked(pid)
  local ends, value = string.match(call('GET', K.left .. pid) or '', '^(%d+)\n(.*)$')
  return value, tonumber(ends)
end

-- When the lease of a replica expired; nil while it has not. A replica that is neither in K.leases nor in K.dead is
-- about to take a lease.
local function lease_end_if_expired(replica, now)
  local ends = tonumber(call('ZSCORE', K.leases, replica) or call('HGET', K.dead, replica) or now + 1)
  return ends <= now and ends or nil
end

-- The key of the hash in which a session is in use, the session, and when it ends if the lease of its replica has
-- expired. `own` is the replica where it most likely is.
local function find_in_use(pid, own, now)
  local value = call('HGET', K.sessions .. own, pid)
  if value then return K.sessions .. own, value end
  for _, each in ipairs(call('HKEYS', K.formats)) do
    value = each ~= own and call('HGET', K.sessions .. each, pid)
    if value then
      local lease_end = lease_end_if_expired(each, now)
      return K.sessions .. each, value, lease_end and lease_end + L.recovery
    end
  end
end

-- Store a session as in use on a replica. The replica is added to K.formats, so that find_in_use finds the session even
-- while the replica has no lease.
local function put_in_use(own, pid, session)
  call('HSET', K.sessions .. own, pid, session)
  call('PEXPIRE', K.sessions .. own, L.keep)
  if call('HSETNX', K.formats, own, 0) == 1 then call('PEXPIRE', K.formats, L.keep) end
end

-- Save a session of a replica. A known session stays as it is, unless it has the same owner.
local function save_session(own, pid, session, now)
  local known = call('HGET', K.sessions .. own, pid)
  if known then
    if parse_session(known) == parse_session(session) then call('HSET', K.sessions .. own, pid, session) end
  elseif call('EXISTS', K.left .. pid) == 0 and not find_in_use(pid, own, now) then
    put_in_use(own, pid, session)
  end
end
