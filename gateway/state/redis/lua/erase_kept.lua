-- Remove the messages that are kept for a user, up to a position. Arguments: 2 address; 3 the position
-- Returns the positions of the removed messages.
local now = now_ms()
read_sizes({ ARGV[2] })
local _, removed = remove_messages(ARGV[2], now, function(_, position) return not is_after(position, ARGV[3]) end)
write_sizes()
return removed
