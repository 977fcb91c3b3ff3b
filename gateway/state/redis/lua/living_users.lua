-- The connections of users at replicas that live.
local is_living

-- Count the connections of a user at living replicas. Also returns when the last lease ended of the others (ms, 0 if no
-- lease is known), and the sids and replicas of the living ones.
local function count_living(user, now)
  if not is_living then
    is_living = {}
    for _, replica in ipairs(living_replicas(now)) do is_living[replica] = true end
  end
  local living, ended, places = 0, 0, {}
  local records = call('HGETALL', K.user .. user)
  for i = 1, #records, 2 do
    local replica = records[i] ~= '' and string.match(records[i + 1], '^(%S+) ')
    if replica and is_living[replica] then
      living = living + 1
      places[#places + 1] = { records[i], replica }
    elseif replica then
      ended = math.max(ended, tonumber(call('ZSCORE', K.leases, replica) or call('HGET', K.dead, replica) or 0))
    end
  end
  return living, ended, places
end

-- Set a user online whose connections live although the state says otherwise.
local function restore_online(user, partition, known, places, now)
  local is = { state = ONLINE, version = known and known.version or 0, since = now, addresses = '\n' }
  if known and known.state == UNKNOWN then is.addresses = known.addresses end
  for _, place in ipairs(places) do
    local record = call('HGET', K.conns .. place[2], place[1])
    if record then is.addresses = with_addresses(is.addresses, place[1], cjson.decode(record).at) end
  end
  call('ZREM', K.absent .. partition, user)
  change_state(user, partition, is, now)
end
