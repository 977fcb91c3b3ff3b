-- Return changes to a consumer only later. A newer change of a user is due as it was.
-- Arguments: consumer, for how long (ms), then for each: user, version.
local consumer, ends = ARGV[2], now_ms() + tonumber(ARGV[3])
for i = 4, #ARGV, 2 do
  local user = ARGV[i]
  local key = K.undelivered .. consumer .. ':' .. partition_of(user)
  local known = read_state(user)
  if call('ZSCORE', key, user) and (not known or known.version == tonumber(ARGV[i + 1])) then
    add(key, ends, user)
    call('PEXPIRE', K.presence .. user, L.undelivered_keep)
  end
end
