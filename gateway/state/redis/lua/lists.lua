-- The list of a namespace: K.listed has of each sid its replica, a blank and the text, and under the empty name the
-- version of the list, which is the time at which it changed, or a connection was registered (ms), or one more than
-- before. K.list_order has the sids by the version that each came with.
local function list_version(key)
  return tonumber(call('HGET', key, '') or 0)
end

local function next_version(key, now)
  return math.max(now, list_version(key) + 1)
end

local function put_listed(namespace, sid, replica, text, now)
  local key, order = K.listed .. namespace, K.list_order .. namespace
  local version = next_version(key, now)
  call('HSET', key, '', version, sid, replica .. ' ' .. text)
  if not call('ZSCORE', order, sid) then call('ZADD', order, version, sid) end
  call('PEXPIRE', key, L.keep)
  call('PEXPIRE', order, L.keep)
end

local function remove_listed(namespace, sid, now)
  local key = K.listed .. namespace
  call('ZREM', K.list_order .. namespace, sid)
  if call('HDEL', key, sid) == 0 then return end
  call('HSET', key, '', next_version(key, now))
  call('PEXPIRE', key, L.keep)
end
