-- Remove notifications from a partition, because the webhook accepted them, or move them to the dead letters.
-- Arguments: webhook, partition, owner, what begins the records of dead letters or '', then for each: its sequence, and
-- its id or '' for any.
-- Returns 'OK'; 'LOST' to another process, and nothing was changed.
local webhook, partition, begins, now = ARGV[2], ARGV[3], ARGV[5], now_ms()
if not owns(webhook, partition, ARGV[4]) then return { 'LOST' } end

local failures = 'f' .. partition
local failed = string.match(call('HGET', K.queue .. webhook, failures) or '', '^%d+')
local queue, removed = open_queue(webhook), 0
for i = 6, #ARGV, 2 do
  local record = take(queue, partition, ARGV[i], ARGV[i + 1])
  if record then
    removed = removed + 1
    if begins ~= '' then
      -- A record of an unknown form has no id that can be read.
      local id = string.match(record, '^%d+Q\30([^\30]+)\30') or 'unreadable-' .. partition .. '-' .. ARGV[i]
      add_dead(webhook, id, begins .. string.format('%.3f', now / 1000) .. '\30' .. record, now)
    end
    if ARGV[i] == failed then call('HDEL', K.queue .. webhook, failures) end
  end
end
if removed > 0 then
  close_queue(queue)
  if begins == '' then call('HINCRBY', K.queue .. webhook, 'accepted', removed) end
end
return { 'OK' }
