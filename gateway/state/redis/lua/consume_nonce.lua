-- Use a nonce without appending an entry.
-- Arguments: ARGV[2] digest of the nonce; ARGV[3] when it may be forgotten (ms); ARGV[4] when the request was signed
-- (s, or ''); ARGV[5] what equals in a retransmission of the request alone, or ''.
-- Returns 'OK', or the code of a rejection and since when nonces are stored (s).
local now = now_ms()
local head = read_or_create_head(now)
local rejection, nonces_in_window = check_nonce(now, head, ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5])
if rejection == 'RETRANSMITTED' then return { 'OK' } end
if rejection then return { rejection, head.nonces_since } end
consume_nonce(now, ARGV[2], nonces_in_window, ARGV[5])
return { 'OK' }
