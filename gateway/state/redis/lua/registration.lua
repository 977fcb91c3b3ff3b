-- Registering a connection; a known sid is replaced. A connection that is registered at two replicas, because it was
-- resumed and the former replica does not know yet, counts where its session is; if neither has the session, at the
-- one that was first, if that lives. Clocks of replicas are not compared.
-- Precedes scripts whose first arguments are: replica, rules, connections that one user may have (0: any number).
local replica, limit, now = ARGV[2], tonumber(ARGV[4]), now_ms()
use_rules(ARGV[3])

local function is_living(other)
  local ends = call('ZSCORE', K.leases, other)
  return ends and tonumber(ends) > now
end

-- Whether a connection counts at another replica; if not, the namespace in whose list the other had it. `size` is that
-- of the hash of its user.
local function is_elsewhere(sid, user, pid, size)
  if size == 0 then return false end
  local other = replica_of(call('HGET', K.user .. user, sid))
  if not other or other == replica then return false end
  local known = call('HGET', K.conns .. other, sid)
  if not known then return false end
  if is_living(other) and (pid == '' or call('HEXISTS', K.sessions .. replica, pid) == 0) then return true end
  return false, remove_connection(other, sid, known)
end

-- Whether a user has as many connections as one may have, without the given one. Connections of replicas whose lease has
-- expired do not count.
local function is_full(user, sid, size)
  if limit == 0 or size < limit then return false end
  local key, living, is_counted = K.user .. user, 0, {}
  for _, each in ipairs(living_replicas(now)) do is_counted[each] = true end
  local records = call('HGETALL', key)
  for place = 1, #records, 2 do
    local each = records[place]
    if each ~= sid and each ~= '' and is_counted[replica_of(records[place + 1])] then living = living + 1 end
  end
  return living >= limit
end

-- Add the record of a connection to the hash of its user, which had `size` fields. `is_first`: this replica had no
-- connection in the namespace.
local function add_record(sid, user, record, size, is_first)
  local key = K.user .. user
  local is_new = call('HSET', key, sid, record) == 1
  if size <= 1 then
    call('PEXPIRE', key, L.keep)
    if size == 1 and call('HDEL', key, '') == 1 then call('ZREM', K.last_seen, user) end
  elseif size >= L.many_sids then
    size = call('HLEN', key)
    if size > L.many_sids then add_sid(user, sid, is_new and size == L.many_sids + 1) end
  end
  call('ZADD', K.users, 0, user)
  if is_first then call('PEXPIRE', K.users, L.keep) end
end

-- Write socket data that Redis has lost: not in place of newer data.
local function restore_data(sid, data)
  local version = tonumber(string.match(data, '^%d+'))
  local known = string.match(call('GET', K.data .. sid) or '', '^%d+')
  if not known or tonumber(known) < version then call('SET', K.data .. sid, data, 'PX', L.keep) end
end

-- Register a connection, whose user had a hash of `size` fields; return whether it counts at another replica instead.
-- `record` is its public record, `counted` its user and addresses as JSON, `pid` that of its session or '', `listed` its
-- entry in the list of its namespace or '', `data` the version, a blank and the text of its socket data, or ''.
local function register_connection(size, sid, user, record, counted, pid, listed, data)
  local known = call('HGET', K.conns .. replica, sid)
  local was_listed, former_user
  if known then was_listed, former_user = remove_connection(replica, sid, known) end
  local counts_elsewhere, listed_elsewhere = is_elsewhere(sid, user, pid, size)
  if counts_elsewhere then return true end
  if uncount_parked(sid) then call('PEXPIRE', K.data .. sid, L.keep) end
  local is = cjson.decode(counted)
  local is_first = count_at(replica, sid, is.at)
  add_member(sid, user, is.m)
  if data ~= '' then restore_data(sid, data) end
  call('HSET', K.conns .. replica, sid, counted)
  add_record(sid, user, record, size, is_first)
  was_listed = was_listed or listed_elsewhere
  if was_listed and was_listed ~= is.l then remove_listed(was_listed, sid, now) end
  if listed ~= '' then put_listed(is.l, sid, replica, listed, now) end
  if rules then
    user_came(user, sid, is.at, now)
    if former_user and former_user ~= user and call('HLEN', K.user .. former_user) == 0 then
      user_left(former_user, now)
    end
  end
end
