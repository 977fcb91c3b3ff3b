-- Use a nonce without appending an entry.
-- Arguments: ARGV[2] digest of the nonce; ARGV[3] when it may be forgotten (ms); ARGV[4] when the request was signed
-- (s, or ''); ARGV[5] id of the ingest key; ARGV[6] since when nonces are stored, as the replica knows it (s);
-- ARGV[7] the latest time that the clocks of the replica show (ms); ARGV[8] what equals in a retransmission of the request alone, or ''.
-- Returns 'OK', or the code of a rejection, since when nonces are stored (s), and after how many seconds another request
-- is not rejected for it.
local now = now_ms()
local head = read_or_create_head(now)
local rejection, detail = check_nonce(now, head, ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8])
if rejection == 'RETRANSMITTED' then return { 'OK' } end
if rejection then return { rejection, head.nonces_since, detail or 0 } end
consume_nonce(now, ARGV[2], detail, ARGV[8])
return { 'OK' }
