-- Claim a client event, unless its acknowledgement is kept or another holder has the claim.
-- Arguments: event, holder, user, how long the claim lasts (ms), what the event is about to change (empty: nothing to
-- record).
-- Returns 'HELD' and what the former holder was about to change, 'BUSY', 'FULL', 'USER_FULL' and how long at most until
-- the user may claim again (ms), or 'KEPT' and the acknowledgement.
-- A claim is kept as `c`, the window in which it began and its holder, an acknowledgement as `a` and its text. The
-- space of the largest acknowledgement is reserved for a claim.
local key, holder, user, lasts = K.ack .. ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local value = call('GET', key)

local function held()
  local former = call('GET', K.intent .. ARGV[2]) or ''
  if ARGV[6] ~= '' then call('SET', K.intent .. ARGV[2], ARGV[6], 'PX', L.ack) end
  return { 'HELD', former }
end

if value and string.sub(value, 1, 1) == 'a' then return { 'KEPT', string.sub(value, 2) } end
if value then
  if not claimed_in(key, holder) then return { 'BUSY' } end
  call('PEXPIRE', key, lasts)
  return held()
end
local now = now_ms()
local window = current_window(now)
local count, bytes, oldest = counted_of_user(user, window)
if count >= L.user_acks or bytes + L.ack_bytes > L.user_ack_bytes then
  return { 'USER_FULL', (oldest + USER_WINDOWS) * L.ack_window - now }
end
local claimed = tonumber(call('GET', K.acks .. window) or 0)
if claimed >= L.acks then return { 'FULL' } end
call('SET', K.acks .. window, claimed + 1, 'PX', 2 * L.ack_window)
count_for_user(user, window, 1, L.ack_bytes)
call('SET', key, 'c' .. window .. ' ' .. holder, 'PX', lasts)
return held()
