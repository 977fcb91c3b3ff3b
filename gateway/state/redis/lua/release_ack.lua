-- End a claim without an acknowledgement. Without the claim of this holder it does nothing.
-- Arguments: event, holder, user.
local key = K.ack .. ARGV[2]
local window = claimed_in(key, ARGV[3])
if window then
  call('DEL', key)
  count_for_user(ARGV[4], window, -1, -L.ack_bytes)
  if call('EXISTS', K.acks .. window) == 1 then call('DECR', K.acks .. window) end
end
return 'OK'
