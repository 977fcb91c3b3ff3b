-- Record that connections are gone: unregister them, and park or delete their sessions.
-- Arguments: replica, rules, then for each: sid, or '' if it is registered for another connection; '1' if it counts as
-- recoverable; pid of its session, or ''; owner of the session; when the connection was lost by the clock of Redis (ms),
-- followed by what with_left_at takes, or '' to delete the session. A parked session ends L.recovery after the loss, however late this is executed.
local replica, now = ARGV[2], now_ms()
use_rules(ARGV[3])
local key = K.sessions .. replica

local function unregister(sid, is_parked)
  local known = call('HGET', K.conns .. replica, sid)
  if known then remove_connection(replica, sid, known, now, is_parked and now + L.recovery or nil, now) end
  if not is_parked then uncount_parked(sid) end
end

local function end_session(pid, owner, lost_at)
  local value = call('HGET', key, pid)
  if value and parse_session(value) == owner then
    call('HDEL', key, pid)
    local lost_ms, left_at = string.match(lost_at, '^(%d+) ?(.*)$')
    if lost_ms then park(pid, with_left_at(value, left_at), math.min(tonumber(lost_ms), now) + L.recovery, now) end
  end
  if lost_at == '' then
    local parked = find_parked(pid)
    if parked and parse_session(parked) == owner then remove_parked(pid, parked) end
  end
end

for i = 4, #ARGV, 5 do
  if ARGV[i] ~= '' then unregister(ARGV[i], ARGV[i + 1] == '1') end
  if ARGV[i + 2] ~= '' then end_session(ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]) end
end
