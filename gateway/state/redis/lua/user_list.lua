-- Read the list of connections of a namespace: those that were added first.
-- Arguments: namespace, how many entries at most.
-- Returns the version, the number of all entries, and entries.
local list = K.listed .. ARGV[2]
local sids = tonumber(ARGV[3]) > 0 and call('ZRANGE', K.list_order .. ARGV[2], 0, tonumber(ARGV[3]) - 1) or {}
local entries = {}
for _, sid in ipairs(sids) do entries[#entries + 1] = call('HGET', list, sid) or nil end
local version = call('HGET', list, '')
return { tonumber(version or 0), call('HLEN', list) - (version and 1 or 0), entries }
