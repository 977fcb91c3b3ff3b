-- Move a session to a new owner.
-- Arguments: replica, pid, user, namespace, owner.
-- Returns the code of a rejection; or 'in_use' if a living replica may still have the connection, otherwise 'left', and
-- the session as it was.
local own, pid, now = ARGV[2], ARGV[3], now_ms()

-- Whether the log has lost what its replica had read when a connection was lost. Former releases keep no such position.
local function has_lost(rest)
  local generation, left_at = string.match(rest, ',"n":"(%S+) (%d+%-%d+)"}$')
  if not generation then return false end
  local line = call('GET', K.head)
  local head = line and parse_head(line)
  return not head or head.generation ~= generation
    or is_after(left_at, head.cut) and left_at ~= head.newest and not was_kept(left_at)
end

local value, session_end = find_parked(pid)
local key
if not value then key, value, session_end = find_in_use(pid, own, now) end
if not value then return { 'unknown_session' } end
local _, user, namespace, rest = parse_session(value)
if namespace ~= ARGV[5] then return { 'unknown_session' } end
if user ~= ARGV[4] then return { 'other_user' } end
if session_end and now >= session_end then return { 'session_expired' } end
if key then
  call('HDEL', key, pid)
elseif has_lost(rest) then
  drop_parked(pid, value)
  return { 'data_lost' }
else
  remove_parked(pid, value)
end
put_in_use(own, pid, ARGV[6] .. '\n' .. user .. '\n' .. namespace .. '\n' .. with_left_at(rest, ''))
return { key and not session_end and 'in_use' or 'left', value }
