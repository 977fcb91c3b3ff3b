-- Return dead letters, oldest first.
-- Arguments: webhook, the id after which they begin or '', how many at most.
-- Returns id and record of each.
local webhook, after = ARGV[2], ARGV[3]
local from = too_old(now_ms())
if after ~= '' then
  local score = call('ZSCORE', K.dead_order .. webhook, after)
  if not score then return {} end
  from = math.max(from, tonumber(score))
end
local ids = call('ZRANGEBYSCORE', K.dead_order .. webhook, string.format('(%.0f', from), '+inf', 'LIMIT', 0, ARGV[4])
local found = {}
for _, id in ipairs(ids) do
  found[#found + 1] = id
  found[#found + 1] = call('HGET', K.dead_letters .. webhook, id)
end
return found
