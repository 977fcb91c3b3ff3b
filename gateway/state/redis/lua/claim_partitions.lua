-- Take partitions without an owner for a worker: a process that takes part in a work. The living workers that called
-- this lately share the partitions evenly, and those that have more keep one more where they cannot be shared evenly.
-- Partitions beyond the number, which was higher before, count while they hold notifications.
-- Arguments: work, how many partitions, replica, token of the process, whether the work is the queue of a webhook ('1').
-- Returns the partitions of this worker, those of them that it should release, and those that hold notifications.
-- Without the lease it has none.
local work, number, own, now = ARGV[2], tonumber(ARGV[3]), ARGV[4] .. ' ' .. ARGV[5], now_ms()
if not has_lease(own, now) then return { {}, {}, {} } end

local holds, partitions = {}, {}
for partition = 0, number - 1 do partitions[#partitions + 1] = partition end
if ARGV[6] == '1' then
  local key = K.queue .. work
  local fields = call('HGETALL', key)
  for i = 1, #fields, 2 do
    local entries = string.find(fields[i], '^%d+$') and string.match(fields[i + 1], '^%d+ (%d+)')
    if entries and entries ~= '0' then
      local partition = tonumber(fields[i])
      holds[partition] = true
      if partition >= number then partitions[#partitions + 1] = partition end
    end
  end
  table.sort(partitions)
  call('PEXPIRE', key, L.queue)
end

local is_living = leases_of(now)

local owners, outside = {}, {}
local known = call('HGETALL', K.owners .. work)
for i = 1, #known, 2 do
  owners[tonumber(known[i])], outside[tonumber(known[i])] = known[i + 1], known[i + 1]
end
local owned, free, numbers = {}, {}, {}
for _, partition in ipairs(partitions) do
  local owner = owners[partition]
  outside[partition] = nil
  if owner == own then
    owned[#owned + 1] = partition
  elseif not owner or not is_living(owner) then
    free[#free + 1] = partition
  end
  if owner then numbers[owner] = (numbers[owner] or 0) + 1 end
end

local workers, share = {}, nil
call('ZADD', K.workers .. work, now, own)
call('ZREMRANGEBYSCORE', K.workers .. work, '-inf', now - L.worker)
for _, worker in ipairs(call('ZRANGE', K.workers .. work, 0, -1)) do
  if is_living(worker) then workers[#workers + 1] = worker end
end
table.sort(workers, function(a, b)
  local of_a, of_b = numbers[a] or 0, numbers[b] or 0
  return of_a > of_b or of_a == of_b and a < b
end)
for place, worker in ipairs(workers) do
  if worker == own then
    share = math.floor(#partitions / #workers) + (place <= #partitions % #workers and 1 or 0)
  end
end

for _, partition in ipairs(free) do
  if #owned >= share then break end
  call('HSET', K.owners .. work, partition, own)
  owned[#owned + 1] = partition
end
table.sort(owned)
local surplus, waiting = {}, {}
for i = share + 1, #owned do surplus[#surplus + 1] = owned[i] end
for _, partition in ipairs(owned) do
  if holds[partition] then
    waiting[#waiting + 1] = partition
    call('PEXPIRE', K.webhook .. work .. ':' .. partition, L.queue)
  end
end
for partition, owner in pairs(outside) do
  if owner == own then
    owned[#owned + 1], surplus[#surplus + 1] = partition, partition
  elseif not is_living(owner) then
    call('HDEL', K.owners .. work, partition)
  end
end
call('PEXPIRE', K.owners .. work, L.keep)
call('PEXPIRE', K.workers .. work, L.keep)
return { owned, surplus, waiting }
