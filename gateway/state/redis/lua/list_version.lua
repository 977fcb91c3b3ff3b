-- Read the version of the list of a namespace, and remove some entries without a connection: a replica of a former
-- release removes connections and does not know of lists. Each second other entries are examined.
-- Arguments: namespace, how many entries to examine at most.
-- Returns the version, 0 without a list.
local namespace, number, now = ARGV[2], tonumber(ARGV[3]), now_ms()
local key, order = K.listed .. namespace, K.list_order .. namespace
local total = call('ZCARD', order)
if total > 0 then
  local first = math.floor(now / 1000) * number % total
  for _, sid in ipairs(call('ZRANGE', order, first, first + number - 1)) do
    local replica = string.match(call('HGET', key, sid) or '', '^%S+')
    if not replica or call('HEXISTS', K.conns .. replica, sid) == 0 then remove_listed(namespace, sid, now) end
  end
end
return list_version(key)
