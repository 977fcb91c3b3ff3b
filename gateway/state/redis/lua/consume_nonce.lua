-- Use a nonce without appending an entry.
-- Arguments: digest of the nonce, its end, when the request was signed (s, or '').
-- Returns 'OK', or the code of a rejection and since when nonces are remembered.
local now = now_ms()
local head = read_head(now)
local rejection, nonces_in_window = check_nonce(now, head, ARGV[2], tonumber(ARGV[3]), ARGV[4])
if rejection then return { rejection, head.began } end
consume_nonce(now, ARGV[2], nonces_in_window)
return { 'OK' }
