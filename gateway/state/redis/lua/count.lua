-- Connections at each address, added up.
-- addresses …
local replicas, sum = living(now_ms()), 0
for i = 2, #ARGV do sum = sum + count_at(ARGV[i], replicas) end
return sum
