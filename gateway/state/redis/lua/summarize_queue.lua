-- Return what the queue of a webhook holds.
-- Arguments: webhook.
-- Returns notifications, their bytes, when the oldest of them happened (s, '' without one), dead letters, and the owners
-- of its partitions: partition and replica of each.
local webhook, now = ARGV[2], now_ms()
local fields = call('HGETALL', K.queue .. webhook)
local entries, bytes, oldest = 0, 0, nil
for i = 1, #fields, 2 do
  local field, value = fields[i], fields[i + 1]
  if field == 'entries' then entries = tonumber(value) end
  if field == 'bytes' then bytes = tonumber(value) end
  if string.find(field, '^%d+$') and string.match(value, '^%d+ (%d+)') ~= '0' then
    local first = call('XRANGE', stream_of(webhook, field), '-', '+', 'COUNT', 1)[1]
    local at = first and tonumber(string.match(first[2][2], '^%d+Q\30[^\30]*\30[^\30]*\30[^\30]*\30([^\30]*)') or nil)
    if at and (not oldest or at < oldest) then oldest = at end
  end
end
local owners, known, is_living = {}, call('HGETALL', K.owners .. webhook), leases_of(now)
for i = 1, #known, 2 do
  if is_living(known[i + 1]) then
    owners[#owners + 1] = known[i]
    owners[#owners + 1] = string.match(known[i + 1], '^%S+')
  end
end
return {
  entries, bytes, oldest and string.format('%.6f', oldest) or '',
  call('ZCOUNT', K.dead_order .. webhook, string.format('(%.0f', too_old(now)), '+inf'), owners,
}
