-- Register a new connection and save its session, unless its token is revoked, its user has too many connections, or
-- messages are kept for its user: these have to be appended before the connection is registered.
-- Called once its channels are subscribed: every entry after the newest position is received there.
-- Arguments: 2 to 4 as registration.lua says; 5 to 11 those of register_connection; 12 its session or ''; 13 id of its
-- token or ''; 14 when its token was issued (s) or ''; 15 what stands for the newest position in the session and in what
-- is counted of the connection; 16 the address of its user.
-- Returns the generation of the log, its newest position, and whether messages are kept for any user; or 'REVOKED',
-- 'FULL' or 'KEPT', and nothing has changed then.
local sid, user, record, counted, pid, listed, data, session, token_id, issued_at, unknown, address =
  unpack(ARGV, 5)
local revoked_at = call('GET', K.revoked .. user)
if token_id ~= '' and call('EXISTS', K.revoked_token .. token_id) == 1
  or revoked_at and (issued_at == '' or tonumber(issued_at) < tonumber(revoked_at)) then
  return 'REVOKED'
end
local size = call('HLEN', K.user .. user)
if is_full(user, sid, size) then return 'FULL' end
if session ~= '' and call('EXISTS', K.kept .. address) == 1 then return 'KEPT' end

local line = call('GET', K.head)
local generation, newest
if line then
  generation, newest = string.match(line, '^(%S+) %S+ %S+ (%S+) ')
else
  -- Create the log first: a position returned without one could be that of any log.
  local head = read_or_create_head(now)
  generation, newest = head.generation, head.newest
end

-- Within the JSON only, where no string holds what looks like a field; a session has three lines before it.
local function with_position(text)
  local _, before = string.find(text, '^[^\n]*\n[^\n]*\n[^\n]*\n')
  local from, to = string.find(text, '"p":"' .. unknown .. '"', (before or 0) + 1, true)
  return from and string.sub(text, 1, from + 4) .. newest .. string.sub(text, to) or text
end

if session ~= '' then save_session(replica, pid, with_position(session), now) end
register_connection(size, sid, user, record, with_position(counted), pid, listed, data)
call('PEXPIRE', K.conns .. replica, L.keep)
return { generation, newest, call('EXISTS', K.kept_bytes) }
