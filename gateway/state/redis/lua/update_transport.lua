-- What others see of a connection is this now.
-- replica, sid, user, what others see of it
if call('HEXISTS', K.conns .. ARGV[2], ARGV[3]) == 1 then
  call('HSET', K.user .. ARGV[4], ARGV[3], ARGV[5])
end
