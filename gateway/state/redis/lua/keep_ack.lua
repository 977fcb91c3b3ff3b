-- Keep the acknowledgement of a client event. Without the claim of this holder it does nothing.
-- Arguments: event, holder, user, acknowledgement.
local key, user, ack = K.ack .. ARGV[2], ARGV[4], ARGV[5]
local window = claimed_in(key, ARGV[3])
if window then
  call('SET', key, 'a' .. ack, 'PX', L.ack)
  call('DEL', K.intent .. ARGV[2])
  count_for_user(user, window, -1, -L.ack_bytes)
  count_for_user(user, current_window(now_ms()), 1, #ack)
end
return 'OK'
