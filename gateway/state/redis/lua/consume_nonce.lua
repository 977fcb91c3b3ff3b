-- Spend a nonce without appending anything.
-- digest, its end, signed at
local now = now_ms()
local head = read_head(now)
local refusal, held = refuse_nonce(now, head, ARGV[2], tonumber(ARGV[3]), ARGV[4])
if refusal then return { refusal, head.began } end
spend_nonce(now, ARGV[2], held)
return { 'OK' }
