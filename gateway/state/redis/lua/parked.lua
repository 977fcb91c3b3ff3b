-- Parked sessions are bounded: those of one user by number, all together by the memory that they take. K.left_ends holds
-- all of them by when they are forgotten (ms), K.left_of those of one user, each as its pid, a blank and its memory.
-- K.left_bytes is the sum. A session that a former release parked is in none of these.

-- What a session takes while it is parked: its record and that of its connection, its places in K.parked, for each
-- room, and in the indexes. The numbers are an upper bound of what Redis 7 takes for rooms of one connection each.
local function parked_member(pid, value)
  local _, commas = string.gsub(value, ',', '')
  return pid .. ' ' .. (3 * #value + 130 * commas + 1300)
end

-- K.left_bytes plus or minus the memory of a session.
local function bytes_with(member, change)
  return tonumber(call('GET', K.left_bytes) or 0) + change * string.match(member, '%d+$')
end

-- Remove a session from the indexes. `user` is nil if the session is not known any more.
local function unindex(member, user)
  if user then call('ZREM', K.left_of .. user, member) end
  if call('ZREM', K.left_ends, member) == 1 then
    call('SET', K.left_bytes, bytes_with(member, -1), 'KEEPTTL')
  end
end

-- Remove a parked session that is known.
local function remove_parked(pid, value)
  local _, user = parse_session(value)
  unindex(parked_member(pid, value), user)
  call('DEL', K.left .. pid)
end

-- Remove a parked session that is known, and that cannot be resumed.
local function drop_parked(pid, value)
  local _, _, _, rest = parse_session(value)
  local is_record, record = pcall(cjson.decode, rest)
  if is_record and type(record) == 'table' and type(record.s) == 'string' then uncount_parked(record.s) end
  remove_parked(pid, value)
end

-- Remove the oldest session of an index before its time: a client that asks for it gets unknown_session.
local function drop_oldest(index)
  local member = call('ZRANGEBYSCORE', index, '-inf', '+inf', 'LIMIT', 0, 1)[1]
  if not member then return false end
  local pid = string.match(member, '^%S+')
  local value = find_parked(pid)
  if value then drop_parked(pid, value) end
  unindex(member)
  call('ZREM', index, member)
  return true
end

-- Park a session that is not in use any more; it ends at `ends` (ms).
local function park(pid, value, ends, now)
  local forgotten = ends + L.recovery
  if L.recovery == 0 or forgotten <= now then return end
  call('SET', K.left .. pid, ends .. '\n' .. value, 'PX', forgotten - now)
  local _, user = parse_session(value)
  local member, of_user = parked_member(pid, value), K.left_of .. user
  call('ZREMRANGEBYSCORE', of_user, '-inf', now)
  call('ZADD', of_user, forgotten, member)
  call('PEXPIRE', of_user, 2 * L.recovery)
  local total = bytes_with(member, call('ZADD', K.left_ends, forgotten, member))
  -- Both end together, when no session of the sum is left.
  call('SET', K.left_bytes, total, 'PX', 2 * L.recovery)
  call('PEXPIRE', K.left_ends, 2 * L.recovery)
  -- Each script removes more of what expired than it adds.
  for _, each in ipairs(call('ZRANGEBYSCORE', K.left_ends, '-inf', now, 'LIMIT', 0, 4)) do unindex(each) end
  if L.user_parked > 0 and call('ZCOUNT', of_user, '-inf', '+inf') > L.user_parked then drop_oldest(of_user) end
  if total > L.parked_bytes then
    -- Two for each that is added, so that a lower bound is reached, too.
    local _ = drop_oldest(K.left_ends) and drop_oldest(K.left_ends)
  end
end
