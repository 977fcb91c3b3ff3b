-- A session is its owner, its user and the rest, each on a line; the rest may have several.

local function parts(value)
  return string.match(value, '^([^\n]*)\n([^\n]*)\n(.*)$')
end

-- When the replica of a hash of sessions was last heard of, if it is not alive.
local function death_of(replica, now)
  local ends = call('ZSCORE', K.leases, replica) or call('HGET', K.dead, replica)
  if not ends then return 0 end
  ends = tonumber(ends)
  if ends > now then return nil end
  return ends
end

-- The key of the hash in which a session is in use, and the session; `own` is where it most likely is.
local function find_in_use(pid, own, now)
  local value = call('HGET', K.sessions .. own, pid)
  if value then return K.sessions .. own, value end
  local replicas = call('ZRANGE', K.leases, 0, -1)
  for _, each in ipairs(call('HKEYS', K.dead)) do replicas[#replicas + 1] = each end
  for _, each in ipairs(replicas) do
    if each ~= own then
      value = call('HGET', K.sessions .. each, pid)
      if value then
        local died = death_of(each, now)
        if died and now > died + L.recovery then return nil end
        return K.sessions .. each, value
      end
    end
  end
end
