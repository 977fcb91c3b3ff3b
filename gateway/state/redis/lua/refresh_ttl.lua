-- Renew the TTL of the keys of users and rooms of some connections.
-- Arguments: replica, sids …
for i = 3, #ARGV do
  local known = call('HGET', K.conns .. ARGV[2], ARGV[i])
  if known then
    local connection = cjson.decode(known)
    call('PEXPIRE', K.user .. connection.user, L.keep)
    call('PEXPIRE', K.sids .. connection.user, L.keep)
    call('PEXPIRE', K.presence .. connection.user, L.undelivered_keep)
    if connection.l then
      call('PEXPIRE', K.listed .. connection.l, L.keep)
      call('PEXPIRE', K.list_order .. connection.l, L.keep)
    end
    for _, name in ipairs(connection.at) do call('PEXPIRE', K.room .. name, L.keep) end
    for _, name in ipairs(connection.m or {}) do
      call('PEXPIRE', K.members .. name, L.keep)
      call('PEXPIRE', K.room_users .. name, L.keep)
    end
    call('PEXPIRE', K.rooms .. string.match(connection.at[1], '^[^,]*'), L.keep)
    call('PEXPIRE', K.users, L.keep)
    call('PEXPIRE', K.data .. ARGV[i], L.keep)
  end
end
