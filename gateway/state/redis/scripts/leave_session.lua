-- The connection is gone: what its owner left behind ends L.recovery from now.
-- replica, pid, owner
local key, now = K.sessions .. ARGV[2], now_ms()
local value = call('HGET', key, ARGV[3])
if value and parts(value) == ARGV[4] then
  call('HDEL', key, ARGV[3])
  if L.recovery > 0 then
    call('SET', K.left .. ARGV[3], (now + L.recovery) .. '\n' .. value, 'PX', 2 * L.recovery)
  end
end
