-- The owners of partitions. K.owners has those of one work: by partition the replica, a blank and the token of its
-- process. An owner counts while its process has the lease of its replica.
local function has_lease(owner, now)
  local replica, process = string.match(owner, '^(%S+) (%S+)$')
  local ends = replica and call('ZSCORE', K.leases, replica)
  return ends and tonumber(ends) > now and string.match(call('HGET', K.holders, replica) or '', '^%S+') == process
end

-- A function that returns the same for each owner, and reads the lease of each once: hundreds of partitions have few.
local function leases_of(now)
  local known = {}
  return function(owner)
    if known[owner] == nil then known[owner] = has_lease(owner, now) or false end
    return known[owner]
  end
end

-- Whether a process owns a partition. Once its lease has expired it does until another process takes the partition.
local function owns(work, partition, owner)
  return call('HGET', K.owners .. work, partition) == owner
end
