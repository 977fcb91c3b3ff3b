-- Return what the queues of webhooks hold.
-- Arguments: webhooks.
-- Returns for each: notifications, their bytes, when the oldest of them happened (s, '' without one), dead letters, and
-- the owners of its partitions: partition and replica of each.
local now, summaries = now_ms(), {}
for i = 2, #ARGV do
  local webhook = ARGV[i]
  local fields = call('HGETALL', K.queue .. webhook)
  local entries, bytes, oldest = 0, 0, nil
  for place = 1, #fields, 2 do
    local field, value = fields[place], fields[place + 1]
    if field == 'entries' then entries = tonumber(value) end
    if field == 'bytes' then bytes = tonumber(value) end
    if string.find(field, '^%d+$') and string.match(value, '^%d+ (%d+)') ~= '0' then
      local first = call('XRANGE', stream_of(webhook, field), '-', '+', 'COUNT', 1)[1]
      local at = first and tonumber(string.match(first[2][2], '^%d+Q\30[^\30]*\30[^\30]*\30[^\30]*\30([^\30]*)') or nil)
      if at and (not oldest or at < oldest) then oldest = at end
    end
  end
  local owners, known = {}, call('HGETALL', K.owners .. webhook)
  for place = 1, #known, 2 do
    if has_lease(known[place + 1], now) then
      owners[#owners + 1] = known[place]
      owners[#owners + 1] = string.match(known[place + 1], '^%S+')
    end
  end
  summaries[#summaries + 1] = {
    entries, bytes, oldest and string.format('%.6f', oldest) or '',
    call('ZCOUNT', K.dead_order .. webhook, string.format('(%.0f', too_old(now)), '+inf'), owners,
  }
end
return summaries
