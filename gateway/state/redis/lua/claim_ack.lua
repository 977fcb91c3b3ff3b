-- Claim a client event, unless its acknowledgement is kept or another holder has the claim.
-- Arguments: event, holder, how long the claim lasts (ms).
-- Returns 'HELD', 'BUSY', 'FULL', or 'KEPT' and the acknowledgement.
-- A claim is kept as `c` and its holder, an acknowledgement as `a` and its text.
local key, mine = K.ack .. ARGV[2], 'c' .. ARGV[3]
local value = call('GET', key)
if value and string.sub(value, 1, 1) == 'a' then return { 'KEPT', string.sub(value, 2) } end
if value and value ~= mine then return { 'BUSY' } end
if not value then
  local window = K.acks .. math.floor(now_ms() / L.ack_window)
  local claimed = tonumber(call('GET', window) or 0)
  if claimed >= L.acks then return { 'FULL' } end
  call('SET', window, claimed + 1, 'PX', 2 * L.ack_window)
end
call('SET', key, mine, 'PX', ARGV[4])
return { 'HELD' }
