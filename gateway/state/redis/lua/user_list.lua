-- Read the list of connections of a namespace: those that were added first.
-- Arguments: namespace, how many entries at most.
-- Returns the version, the number of all entries, and entries.
local key, limit, entries = K.listed .. ARGV[2], tonumber(ARGV[3]), {}
local sids = limit > 0 and call('ZRANGE', K.list_order .. ARGV[2], 0, limit - 1) or {}
for _, sid in ipairs(sids) do
  entries[#entries + 1] = string.match(call('HGET', key, sid) or '', '^%S+ (.*)$')
end
local version = list_version(key)
return { version, math.max(0, call('HLEN', key) - 1), entries }
