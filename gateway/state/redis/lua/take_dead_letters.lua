-- Delete dead letters, or put them at the end of their queue, the oldest first.
-- Arguments: webhook, how many partitions the queue has or '' to delete, form of a wake-up, then the ids.
-- Returns 'OK' and how many there were; 'QUEUE_FULL' and the webhook, and nothing was changed.
local webhook, partitions, form, now = ARGV[2], tonumber(ARGV[3]), ARGV[4], now_ms()
local letters, bytes, is_known = {}, 0, {}
for i = 5, #ARGV do
  local id = ARGV[i]
  local score = not is_known[id] and tonumber(call('ZSCORE', K.dead_order .. webhook, id) or 0)
  if score and score > too_old(now) then
    is_known[id] = true
    local record = record_of(call('HGET', K.dead_letters .. webhook, id))
    letters[#letters + 1] = { id = id, score = score, record = record }
    bytes = bytes + size_of(record)
  end
end
if #letters == 0 then return { 'OK', 0 } end

if partitions then
  local queue = open_queue(webhook)
  if is_full(queue, #letters, bytes) then return { 'QUEUE_FULL', webhook } end
  table.sort(letters, function(a, b) return a.score < b.score end)
  for _, letter in ipairs(letters) do
    -- As partition_of of domain/notifications.py.
    local user = string.match(letter.record, '^%d+Q\30[^\30]*\30([^\30]*)') or ''
    put(queue, tostring(tonumber(string.sub(redis.sha1hex(user), 1, 4), 16) % partitions), letter.record, now)
  end
  close_queue(queue)
  wake_owners(queue, form, read_or_create_head(now).newest, now)
end
for _, letter in ipairs(letters) do take_dead(webhook, letter.id) end
return { 'OK', #letters }
