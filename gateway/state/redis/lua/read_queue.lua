-- Return the first notifications of a partition, at least one if there is any.
-- Arguments: webhook, partition, owner, the most notifications, and the most that they count (bytes).
-- Returns 'OK', sequence and record of each, and the failures of the first one or ''; 'LOST' to another process.
local webhook, partition = ARGV[2], ARGV[3]
local most, most_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
if not owns(webhook, partition, ARGV[4]) then return { 'LOST' } end

local key, page, bytes, start = stream_of(webhook, partition), {}, 0, '-'
local is_full, number = false, 1
while not is_full and #page < 2 * most and bytes < most_bytes do
  local part = call('XRANGE', key, start, '+', 'COUNT', math.min(number, most - #page / 2))
  if #part == 0 then break end
  for _, item in ipairs(part) do
    local record = item[2][2]
    bytes = bytes + size_of(record)
    if #page > 0 and bytes > most_bytes then
      is_full = true
      break
    end
    page[#page + 1] = string.match(item[1], '^%d+')
    page[#page + 1] = record
    start = '(' .. item[1]
  end
  -- As many as fit if they are like those before, and not many more at once: copying large ones takes time.
  local fitting = math.floor((most_bytes - bytes) / (2 * bytes / #page))
  number = math.max(1, math.min(2 * number, 16, fitting))
end

local failures = ''
if page[1] then
  failures = call('HGET', K.queue .. webhook, 'f' .. partition) or ''
  if string.match(failures, '^%d+') ~= page[1] then failures = '' end
else
  local queue = open_queue(webhook)
  local opened = open_partition(queue, partition)
  if opened.entries > 0 then
    -- The stream has expired.
    count(queue, opened, -opened.entries, -opened.bytes)
    close_queue(queue)
  end
end
return { 'OK', page, failures }
