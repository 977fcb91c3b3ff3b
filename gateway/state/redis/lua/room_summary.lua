-- Read what is in a room.
-- Arguments: address.
-- Returns 1 if the members are complete, connections, recoverable sessions, and users of the members.
local address, now = ARGV[2], now_ms()
return {
  is_complete(), count_connections(address, living_replicas(now)),
  count_recoverable(address, expired_replicas(now), now), call('HLEN', K.room_users .. address),
}
