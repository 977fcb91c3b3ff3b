-- Compare what a replica knows of users with the states, which Redis may have lost. A state that is older than what the
-- replica knows gets a newer version: online if there is a connection, otherwise unknown until the user connects, or
-- has had no connection for as long as the rules say.
-- Arguments: rules, then for each: user, the newest version that a consumer was notified of (0 for none), when a
-- connection of the user ended (ms, 0 for none), addresses, each on a line.
use_rules(ARGV[2])
local now = now_ms()

local function touch(user, version, left_at, addresses)
  local partition, known = partition_of(user), read_state(user)
  local living, _, places = count_living(user, now)
  local is_known = known and known.version >= version and (known.state ~= OFFLINE or known.version >= left_at)
  if not is_known then
    local is = known or { since = now, addresses = '\n' }
    is.version, is.addresses = math.max(version, known and known.version or 0), with_addresses(is.addresses, '', addresses)
    is.state = UNKNOWN
    if living > 0 then
      restore_online(user, partition, is, places, now)
      return
    end
    write_state(user, is)
    -- Other replicas may not have registered their connections again: no user is set offline for some time.
    call('SET', K.swept, now .. ' ' .. now, 'PX', L.keep)
    call('ZREM', K.online .. partition, user)
    add(K.absent .. partition, now, user)
  elseif living == 0 and known.state ~= OFFLINE and not call('ZSCORE', K.absent .. partition, user) then
    add(K.absent .. partition, now, user)
  end
end

for i = 3, #ARGV, 4 do
  local addresses = {}
  for address in string.gmatch(ARGV[i + 3], '[^\n]+') do addresses[#addresses + 1] = address end
  touch(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), addresses)
end
