-- A session is its owner, its user, its namespace and the rest, each on a line; the rest may have several. One that was
-- left has a line before these: when it ends (ms). It is kept for as long again, to tell who comes too late.

local function parts(value)
  return string.match(value, '^([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
end

-- One that was left: the session, and when it ends.
local function find_left(pid)
  local ends, value = string.match(call('GET', K.left .. pid) or '', '^(%d+)\n(.*)$')
  return value, tonumber(ends)
end

-- When the lease of the replica of a hash of sessions ended; nil while it lives. One that has neither a lease nor died
-- is about to register anew.
local function death_of(replica, now)
  local ends = tonumber(call('ZSCORE', K.leases, replica) or call('HGET', K.dead, replica) or now + 1)
  return ends <= now and ends or nil
end

-- The key of the hash in which a session is in use, the session, and when it ends if its replica is dead; `own` is
-- where it most likely is.
local function find_in_use(pid, own, now)
  local value = call('HGET', K.sessions .. own, pid)
  if value then return K.sessions .. own, value end
  for _, each in ipairs(call('HKEYS', K.formats)) do
    value = each ~= own and call('HGET', K.sessions .. each, pid)
    if value then
      local died = death_of(each, now)
      return K.sessions .. each, value, died and died + L.recovery
    end
  end
end

-- Put a session where others find it, even if this replica is not registered at the moment.
local function use(own, pid, session)
  call('HSET', K.sessions .. own, pid, session)
  call('PEXPIRE', K.sessions .. own, L.keep)
  if call('HSETNX', K.formats, own, 0) == 1 then call('PEXPIRE', K.formats, L.keep) end
end
