-- Keep the acknowledgement of a client event. Without the claim of this holder it does nothing.
-- Arguments: event, holder, acknowledgement.
local key = K.ack .. ARGV[2]
if call('GET', key) == 'c' .. ARGV[3] then call('SET', key, 'a' .. ARGV[4], 'PX', L.ack) end
return 'OK'
