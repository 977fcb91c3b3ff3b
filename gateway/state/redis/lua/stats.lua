-- Read how many users, connections and rooms there are, and which replicas live.
-- Arguments: namespaces …
-- Returns 1 if the numbers are complete, the users, for each namespace { connections, rooms, users }, and for each replica
-- { name, connections, version of its release, a blank and since when its process runs or '', when its lease was taken }.
local now = now_ms()
local replicas, namespaces, living = living_replicas(now), {}, {}
for i = 2, #ARGV do
  local rooms = K.rooms .. ARGV[i]
  namespaces[i - 1] = {
    count_connections(ARGV[i], replicas), call('ZCARD', rooms),
    call('ZLEXCOUNT', rooms, '[user:', '(user:\255'),
  }
end
for i, replica in ipairs(replicas) do
  living[i] = {
    replica, call('HLEN', K.conns .. replica), call('HGET', K.versions, replica) or '',
    string.match(call('HGET', K.holders, replica) or '', '%S+$') or '',
  }
end
return { is_complete(), call('ZCARD', K.users), namespaces, living }
