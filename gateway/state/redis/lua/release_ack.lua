-- End a claim without an acknowledgement. Without the claim of this holder it does nothing.
-- Arguments: event, holder, user, whether to keep what the event was about to change (1 or 0), which counts for the user.
local key, intent, user = K.ack .. ARGV[2], K.intent .. ARGV[2], ARGV[4]
local window = claimed_in(key, ARGV[3])
if window then
  call('DEL', key)
  local bytes = ARGV[5] == '1' and call('STRLEN', intent) or 0
  if bytes > 0 then
    count_for_user(user, window, 0, bytes - L.ack_bytes)
  else
    call('DEL', intent)
    count_for_user(user, window, -1, -L.ack_bytes)
    if call('EXISTS', K.acks .. window) == 1 then call('DECR', K.acks .. window) end
  end
end
return 'OK'
