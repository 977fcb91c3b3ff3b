-- Replace the public record of a connection.
-- Arguments: replica, sid, user, public record.
if call('HEXISTS', K.conns .. ARGV[2], ARGV[3]) == 1 then
  call('HSET', K.user .. ARGV[4], ARGV[3], ARGV[5])
end
