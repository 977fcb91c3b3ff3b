-- The queues of notifications. A partition of a queue is a stream, K.webhook, whose ids are `<sequence>-0`. K.queue has
-- for a webhook:
--   entries, bytes   what its queue holds in all
--   accepted         how many notifications the webhook ever accepted
--   <partition>      last sequence, a blank, entries, a blank, bytes
--   f<partition>     the failures of its first notification (record_failure.lua)
-- Sequences have 16 digits, more than Lua writes by itself. A record is text (codec.py): its form, id, user, type, time,
-- what it counts of the bounds (bytes), and its data, separated by U+001E.

local function stream_of(webhook, partition)
  return K.webhook .. webhook .. ':' .. partition
end

-- What a record counts.
local function size_of(record)
  return tonumber(string.match(record, '^%d+Q\30[^\30]*\30[^\30]*\30[^\30]*\30[^\30]*\30(%d+)\30') or #record)
end

local function open_queue(webhook)
  local sums = call('HMGET', K.queue .. webhook, 'entries', 'bytes')
  return { webhook = webhook, entries = tonumber(sums[1] or 0), bytes = tonumber(sums[2] or 0), partitions = {} }
end

-- The last sequence of all partitions. A user may have been in any of them, because their number was another one.
local function last_of_all(webhook)
  local last, known = 0, call('HGETALL', K.queue .. webhook)
  for i = 1, #known, 2 do
    if string.find(known[i], '^%d+$') then last = math.max(last, tonumber(string.match(known[i + 1], '^%d+'))) end
  end
  return last
end

local function open_partition(queue, partition)
  local opened = queue.partitions[partition]
  if opened then return opened end
  local known = call('HGET', K.queue .. queue.webhook, partition) or ''
  local last, entries, bytes = string.match(known, '^(%d+) (%d+) (%d+)$')
  if not last then
    local newest = call('XREVRANGE', stream_of(queue.webhook, partition), '+', '-', 'COUNT', 1)[1]
    last, entries, bytes = newest and string.match(newest[1], '^%d+') or last_of_all(queue.webhook), 0, 0
  end
  opened = { last = tonumber(last), entries = tonumber(entries), bytes = tonumber(bytes) }
  queue.partitions[partition] = opened
  return opened
end

local function count(queue, opened, entries, bytes)
  queue.entries, queue.bytes = math.max(0, queue.entries + entries), math.max(0, queue.bytes + bytes)
  opened.entries, opened.bytes = math.max(0, opened.entries + entries), math.max(0, opened.bytes + bytes)
end

-- Add a notification to the end of a partition; its sequence is the time (µs), or one more than the last.
local function put(queue, partition, record, now)
  local opened = open_partition(queue, partition)
  opened.last = math.max(now * 1000, opened.last + 1)
  call('XADD', stream_of(queue.webhook, partition), string.format('%.0f-0', opened.last), 'r', record)
  if opened.entries == 0 then opened.wakes = true end
  count(queue, opened, 1, size_of(record))
end

-- Whether a queue cannot hold so much more.
local function is_full(queue, entries, bytes)
  return queue.entries + entries > L.queued or queue.bytes + bytes > L.queued_bytes
end

-- The queues that notifications go to, by webhook, each with what is about to be added.
local function queues_of(notifications)
  local queues = {}
  for _, each in ipairs(notifications) do
    local queue = queues[each.webhook]
    if not queue then
      queue = open_queue(each.webhook)
      queue.new_entries, queue.new_bytes = 0, 0
      queues[each.webhook] = queue
    end
    queue.new_entries, queue.new_bytes = queue.new_entries + 1, queue.new_bytes + size_of(each.record)
  end
  return queues
end

-- Remove a notification and return its record; nil if it is gone, or has another id than `id`, '' for any.
local function take(queue, partition, sequence, id)
  local key, place = stream_of(queue.webhook, partition), sequence .. '-0'
  local found = call('XRANGE', key, place, place)[1]
  if not found or (id ~= '' and string.match(found[2][2], '^%d+Q\30([^\30]+)\30') ~= id) then return end
  call('XDEL', key, place)
  count(queue, open_partition(queue, partition), -1, -size_of(found[2][2]))
  return found[2][2]
end

-- Store what was changed of a queue, and renew its TTL.
local function close_queue(queue)
  local key, fields = K.queue .. queue.webhook, { 'entries', queue.entries, 'bytes', queue.bytes }
  for partition, opened in pairs(queue.partitions) do
    fields[#fields + 1] = partition
    fields[#fields + 1] = string.format('%.0f %d %d', opened.last, opened.entries, opened.bytes)
    call('PEXPIRE', stream_of(queue.webhook, partition), L.queue)
  end
  call('HSET', key, unpack(fields))
  call('PEXPIRE', key, L.queue)
end

-- Wake the owners of partitions that were empty. `form` begins the record of the frame; `position` is any position.
local function wake_owners(queue, form, position, now)
  for partition, opened in pairs(queue.partitions) do
    local owner = opened.wakes and call('HGET', K.owners .. queue.webhook, partition)
    if owner and has_lease(owner, now) then
      local record = form .. '\30' .. queue.webhook .. '\30' .. partition
      -- Without the permission to publish the owner finds the notification when it claims again.
      redis.pcall('PUBLISH', K.probe .. string.match(owner, '^%S+'), position .. '\n' .. record)
    end
  end
end
