-- Give partitions up. Those of another process stay.
-- Arguments: work, owner, whether the owner takes no part in the work any more ('1'), then the partitions; with '1' all.
local work, owner = ARGV[2], ARGV[3]
local released = {}
if ARGV[4] == '1' then
  local known = call('HGETALL', K.owners .. work)
  for i = 1, #known, 2 do
    if known[i + 1] == owner then released[#released + 1] = known[i] end
  end
  call('ZREM', K.workers .. work, owner)
else
  for i = 5, #ARGV do
    if owns(work, ARGV[i], owner) then released[#released + 1] = ARGV[i] end
  end
end
if #released > 0 then call('HDEL', K.owners .. work, unpack(released)) end
return #released
