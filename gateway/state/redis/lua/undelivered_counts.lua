-- Count the changes that consumers were not notified of.
-- Arguments: consumers …
-- Returns for each how many there are, and when the oldest of them happened (ms, '' without one).
local answers = {}
for i = 2, #ARGV do
  local number, oldest = 0, ''
  for partition = 0, L.presence_partitions - 1 do
    local key = K.changed .. ARGV[i] .. ':' .. partition
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    number = number + call('ZCARD', key)
    if first[2] and (oldest == '' or tonumber(first[2]) < oldest) then oldest = tonumber(first[2]) end
  end
  answers[#answers + 1] = { number, oldest }
end
return answers
