-- Who users are to others: of each, the connections of living replicas, and when the last one left.
-- users …
local now, lives = now_ms(), {}
for _, replica in ipairs(living(now)) do lives[replica] = true end

local function look_at(user)
  local fields = call('HGETALL', K.user .. user)
  local seen, last_seen = {}, ''
  for i = 1, #fields, 2 do
    if fields[i] == '' then
      last_seen = fields[i + 1]
    else
      local replica = string.match(fields[i + 1], '^(%S+) ')
      if replica and lives[replica] then
        seen[#seen + 1] = fields[i]
        seen[#seen + 1] = fields[i + 1]
      elseif replica then
        local ended_at = call('ZSCORE', K.leases, replica) or call('HGET', K.dead, replica)
        if ended_at then last_seen = string.format('%.3f', tonumber(ended_at) / 1000) end
      end
    end
  end
  return { seen, #seen == 0 and last_seen or '' }
end

local answers = {}
for i = 2, #ARGV do answers[i - 1] = look_at(ARGV[i]) end
return answers
