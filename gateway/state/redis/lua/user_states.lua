-- Whether each user is online or offline, and which consumers were not notified of the newest change. Recorded only by
-- scripts that get rules: the milliseconds after which a user without a connection is offline, and the consumers.
-- K.presence has of each user: the state, the version, since when (ms), and the addresses, each on a line. A user whose
-- state Redis has lost is in the state UNKNOWN until it connects, or is found to be offline.
-- Users are in partitions. K.absent holds those without a connection, by when the last one ended (ms); K.online those
-- that are online, by when they were last examined (ms). Of each consumer K.undelivered holds the users whose newest
-- change it was not notified of, by when they are due (ms), and K.changed the same users by when it happened (ms).
local OFFLINE, ONLINE, UNKNOWN = '0', '1', '2'
local CONSUMERS = { 'webhook', 'clients' }
local rules

local function use_rules(text)
  if text == '' then return end
  local after, names = string.match(text, '^(%d+) ?(.*)$')
  rules = { after = tonumber(after), consumers = {} }
  for name in string.gmatch(names, '%a+') do rules.consumers[#rules.consumers + 1] = name end
end

-- The partition of a user, as domain/notifications.py computes it.
local function partition_of(user)
  return tonumber(string.sub(redis.sha1hex(user), 1, 4), 16) % L.presence_partitions
end

local function read_state(user)
  local state, version, since, addresses =
    string.match(call('GET', K.presence .. user) or '', '^(%d) (%d+) (%d+)(\n.*)$')
  if not state then return nil end
  return { state = state, version = tonumber(version), since = tonumber(since), addresses = addresses }
end

local function write_state(user, is)
  call('SET', K.presence .. user, is.state .. ' ' .. is.version .. ' ' .. is.since .. is.addresses, 'PX',
    L.undelivered_keep)
end

-- Add addresses to the lines of others, as many as are kept. Clients have the room of a sid for themselves.
local function with_addresses(lines, sid, names)
  local _, number = string.gsub(lines, '\n', '')
  local own = ',' .. sid
  for _, name in ipairs(names) do
    if number > L.presence_addresses then return lines end
    if string.sub(name, -#own) ~= own and not string.find(lines, '\n' .. name .. '\n', 1, true) then
      lines, number = lines .. name .. '\n', number + 1
    end
  end
  return lines
end

local function add(key, score, user)
  local added = call('ZADD', key, score, user)
  call('PEXPIRE', key, L.undelivered_keep)
  return added
end

local function remove_undelivered(consumer, partition, user)
  call('ZREM', K.undelivered .. consumer .. ':' .. partition, user)
  call('ZREM', K.changed .. consumer .. ':' .. partition, user)
end

-- The newest state of a user was not delivered to a consumer. Of too many such users the oldest is forgotten.
local function add_undelivered(consumer, partition, user, now)
  local due, changed = K.undelivered .. consumer .. ':' .. partition, K.changed .. consumer .. ':' .. partition
  call('ZADD', due, now, user)
  if call('ZADD', changed, now, user) == 0 then return end
  local number = call('ZCARD', changed)
  if number == 1 then
    call('PEXPIRE', due, L.undelivered_keep)
    call('PEXPIRE', changed, L.undelivered_keep)
  elseif number > L.undelivered then
    remove_undelivered(consumer, partition, call('ZRANGE', changed, 0, 0)[1])
  end
end

-- Give a user a state with a newer version than `version`, which all consumers are to be notified of.
local function change_state(user, partition, is, now)
  is.version = math.max(now, is.version + 1)
  write_state(user, is)
  if is.state == ONLINE then
    add(K.online .. partition, now, user)
  else
    call('ZREM', K.online .. partition, user)
  end
  for _, consumer in ipairs(rules.consumers) do add_undelivered(consumer, partition, user, now) end
end

-- Record that a user has a connection.
local function user_came(user, sid, addresses, now)
  local partition, known = partition_of(user), read_state(user)
  -- A user who is offline is not absent, or was forgotten; the sweep removes that.
  if known and known.state ~= OFFLINE then call('ZREM', K.absent .. partition, user) end
  if not known or known.state ~= ONLINE then
    local lines = known and known.state == UNKNOWN and known.addresses or '\n'
    local is = { state = ONLINE, version = known and known.version or 0, since = now }
    is.addresses = with_addresses(lines, sid, addresses)
    change_state(user, partition, is, now)
    return
  end
  local lines = with_addresses(known.addresses, sid, addresses)
  if lines ~= known.addresses then
    known.addresses = lines
    write_state(user, known)
  end
end

-- Record addresses that a connection got.
local function user_moved(user, sid, addresses)
  local known = read_state(user)
  if known and known.state == ONLINE then
    local lines = with_addresses(known.addresses, sid, addresses)
    if lines ~= known.addresses then
      known.addresses = lines
      write_state(user, known)
    end
  end
end

-- Record that the last connection of a user ended at `left_at` (ms).
local function user_left(user, left_at)
  add(K.absent .. partition_of(user), left_at, user)
end
