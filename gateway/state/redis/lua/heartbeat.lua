-- A sign of life of a replica: its lease, and everything that lives by it.
-- replica, newest record format, what tells its process from others of that name, its last sign of life that it knows
-- of (ms, 0 for none)
-- One that was dead for longer than its sessions are kept takes a new lease, and they are over: the connections that it
-- had may be gone for as long.
-- Answers which lease this is, by the moment when it was taken: whoever finds another than before was taken out
-- meanwhile, however many answers were lost. Or 'HELD' and the end of the lease, if it is another process's.
local replica, process, now = ARGV[2], ARGV[4], now_ms()
local ends = call('ZSCORE', K.leases, replica)
local holder, taken = string.match(call('HGET', K.holders, replica) or '', '^(%S+) (%S+)$')
if holder and holder ~= process and ends and tonumber(ends) > now then return { 'HELD', ends } end

local head = read_head(now)
local last = tonumber(ARGV[5])
local died = math.max(last + L.lease, tonumber(ends or 0))
local is_over = last > 0 and now >= died + L.recovery
-- Told as expired for as long again, from now.
if is_over then move_sessions(replica, now, now - L.recovery) end
if not ends or is_over or holder ~= process then
  local time = call('TIME')
  taken = time[1] .. '.' .. time[2]
  call('HSET', K.holders, replica, process .. ' ' .. taken)
end
call('ZADD', K.leases, now + L.lease, replica)
call('HSET', K.formats, replica, ARGV[3])
call('HDEL', K.dead, replica)
for _, key in ipairs({ K.head, K.log, K.segments, K.ids_new, K.ids_old, K.leases, K.holders, K.formats, K.dead,
  K.conns .. replica, K.sessions .. replica }) do
  call('PEXPIRE', key, L.keep)
end

-- A replica whose lease ended may come back, and read what was written meanwhile. Zero stands for whoever will not.
local oldest, newest = tonumber(ARGV[3]), tonumber(ARGV[3])
local formats = call('HGETALL', K.formats)
for i = 2, #formats, 2 do
  local format = tonumber(formats[i])
  if format > 0 then oldest, newest = math.min(oldest, format), math.max(newest, format) end
end
local ended = call('ZRANGEBYSCORE', K.leases, '-inf', now)
for _, each in ipairs(call('HKEYS', K.dead)) do
  ended[#ended + 1] = each
end
local oldest_entry = call('XRANGE', K.log, '-', '+', 'COUNT', 1)[1]
local nonces = 0
for each = math.floor(now / L.nonce_window) - 2, math.floor(now / L.nonce_window) do
  nonces = nonces + call('SCARD', K.nonces .. each)
end
return { 'OK', taken, head.log, head.began, now, oldest, newest, living(now), ended,
  { head.entries - head.cut_entries, head.bytes - head.cut_bytes, oldest_entry and order(oldest_entry[1]) or 0, nonces },
  last > 0 and now >= last + L.lease + L.recovery and 1 or 0 }
