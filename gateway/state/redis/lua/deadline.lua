if now_ms() > tonumber(ARGV[1]) then return redis.error_reply('LATE ' .. now_ms()) end
