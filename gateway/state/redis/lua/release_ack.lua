-- End a claim without an acknowledgement. Without the claim of this holder it does nothing.
-- Arguments: event, holder.
local key = K.ack .. ARGV[2]
if call('GET', key) == 'c' .. ARGV[3] then call('DEL', key) end
return 'OK'
