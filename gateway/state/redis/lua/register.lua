-- Register connections, each unless it would be one of more than so many of its user.
-- Arguments: 2 to 4 as registration.lua says, then for each: those of register_connection.
-- Returns the sids that count at another replica; or 'FULL' at the first connection that is not registered.
local elsewhere = {}
for i = 5, #ARGV, 7 do
  local sid, user = ARGV[i], ARGV[i + 1]
  -- Without connections of this user the hash has no field, or the time when the last one ended. A record that is
  -- replaced leaves the others, so the size of before is one too high at most.
  local size = call('HLEN', K.user .. user)
  if is_full(user, sid, size) then return 'FULL' end
  if register_connection(size, unpack(ARGV, i, i + 6)) then elsewhere[#elsewhere + 1] = sid end
end
call('PEXPIRE', K.conns .. replica, L.keep)
return elsewhere
