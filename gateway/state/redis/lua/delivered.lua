-- Record that a consumer was notified of changes. A newer change of a user stays undelivered.
-- A version that is newer than that of the state shows that Redis has lost a change: the state gets a newer version.
-- Arguments: consumer, then for each: user, version.
local consumer, now = ARGV[2], now_ms()

local function is_delivered(partition, user)
  for _, each in ipairs(CONSUMERS) do
    if call('ZSCORE', K.changed .. each .. ':' .. partition, user) then return false end
  end
  return true
end

for i = 3, #ARGV, 2 do
  local user, version = ARGV[i], tonumber(ARGV[i + 1])
  local partition, known = partition_of(user), read_state(user)
  if known and version > known.version then
    known.version = math.max(now, version + 1)
    write_state(user, known)
    add_undelivered(consumer, partition, user, now)
  elseif not known or known.version == version then
    remove_undelivered(consumer, partition, user)
    -- Of a user who is offline only the version is needed still, for a user who returns soon.
    if known and known.state == OFFLINE and is_delivered(partition, user) then
      call('SET', K.presence .. user, OFFLINE .. ' ' .. version .. ' ' .. known.since .. '\n', 'PX', L.presence_keep)
    end
  end
end
