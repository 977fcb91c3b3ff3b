-- A sign of life of a replica: its lease, and everything that lives by it.
-- replica, newest record format
local replica, now = ARGV[2], now_ms()
local head = read_head(now)
local had = call('ZSCORE', K.leases, replica)
call('ZADD', K.leases, now + L.lease, replica)
call('HSET', K.formats, replica, ARGV[3])
call('HDEL', K.dead, replica)
for _, key in ipairs({ K.head, K.log, K.segments, K.ids_new, K.ids_old, K.leases, K.formats, K.dead,
  K.conns .. replica, K.sessions .. replica }) do
  call('PEXPIRE', key, L.keep)
end

local format = tonumber(ARGV[3])
local present = living(now)
for _, each in ipairs(present) do
  format = math.min(format, tonumber(call('HGET', K.formats, each) or format))
end
local ended = call('ZRANGEBYSCORE', K.leases, '-inf', now)
for _, each in ipairs(call('HKEYS', K.dead)) do
  ended[#ended + 1] = each
end
local nonces = 0
for each = math.floor(now / L.nonce_window) - 2, math.floor(now / L.nonce_window) do
  nonces = nonces + call('SCARD', K.nonces .. each)
end
return { had and 1 or 0, head.log, head.began, now, format, present, ended,
  { head.entries - head.cut_entries, head.bytes - head.cut_bytes, nonces } }
