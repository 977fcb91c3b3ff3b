-- Read the changes that a consumer was not notified of and that are due, the oldest first.
-- Arguments: consumer, how many at most, partitions …
-- Returns for each: user, 1 if online, version, since when (ms), connections at living replicas, partition, addresses.
local consumer, limit, now, due = ARGV[2], tonumber(ARGV[3]), now_ms(), {}
-- Users are spread evenly: twice the even share of each partition holds nearly all of the oldest.
local share = math.min(limit, 2 * math.ceil(limit / math.max(1, #ARGV - 3)) + 8)
for i = 4, #ARGV do
  local users = call('ZRANGEBYSCORE', K.undelivered .. consumer .. ':' .. ARGV[i], '-inf', now, 'WITHSCORES',
    'LIMIT', 0, share)
  for place = 1, #users, 2 do
    due[#due + 1] = { user = users[place], at = tonumber(users[place + 1]), partition = tonumber(ARGV[i]) }
  end
end
table.sort(due, function(a, b) return a.at < b.at end)

local changes = {}
for _, each in ipairs(due) do
  if #changes >= limit then break end
  local known = read_state(each.user)
  local living = known and known.state == OFFLINE and 0 or count_living(each.user, now)
  -- A state that expired before it was delivered is what the connections show, and gets a version each time.
  if not known then
    known = { state = living > 0 and ONLINE or OFFLINE, version = now - 1, since = math.floor(each.at), addresses = '\n' }
  end
  if known.state ~= UNKNOWN then
    local is_online = known.state == ONLINE
    changes[#changes + 1] = { each.user, is_online and 1 or 0, known.version, known.since, living,
      each.partition, known.addresses }
  end
end
return changes
