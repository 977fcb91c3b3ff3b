-- Read a page of the names of users or rooms with connections, in the order of their bytes.
-- Arguments: 'users' or 'rooms', the namespace of the rooms, or '' for the users of all, the lowest and the highest name
-- as ZRANGEBYLEX takes them, how many at most, what precedes a name in its address …
-- Returns 1 if the list is complete, the last name that was examined or '' at the end, and name, connections …
-- A name without a connection is left out, and removed from the list if no replica counts one there: a replica of a
-- former release removes connections and not names.
local key = ARGV[2] == 'users' and K.users or K.rooms .. ARGV[3]
-- A page has fewer names where each is counted in many namespaces, because other scripts wait for it.
local limit, now, page = math.min(tonumber(ARGV[6]), math.max(1, math.floor(1000 / (#ARGV - 6)))), now_ms(), {}
local replicas = living_replicas(now)

local function has_connection(name)
  if ARGV[2] == 'users' then return call('HLEN', K.user .. name) > call('HEXISTS', K.user .. name, '') end
  return call('EXISTS', K.room .. ARGV[7] .. name) == 1
end

local names = call('ZRANGEBYLEX', key, ARGV[4], ARGV[5], 'LIMIT', 0, limit + 1)
for i = 1, math.min(#names, limit) do
  local connections = 0
  for place = 7, #ARGV do connections = connections + count_connections(ARGV[place] .. names[i], replicas) end
  if connections > 0 then
    page[#page + 1] = names[i]
    page[#page + 1] = connections
  elseif not has_connection(names[i]) then
    call('ZREM', key, names[i])
  end
end
return { is_complete(), names[limit + 1] and names[limit] or '', page }
