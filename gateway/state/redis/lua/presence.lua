-- Read the presence of users: of each the connections of living replicas, and when the last one disconnected.
-- Arguments: users …
-- Returns for each user { sid, record, sid, record … }, the time (s), or '' while there are connections, and how many
-- sessions may be resumed whose connection is gone, and the version of its newest change, or '' if none is recorded.
-- After so much work the rest of the users is left for another script: a user counts for 3, and each connection for 1.
local MAX_WORK = 1500
local now, is_living = now_ms(), {}
for _, replica in ipairs(living_replicas(now)) do is_living[replica] = true end
local is_expired = {}
for _, replica in ipairs(expired_replicas(now)) do is_expired[replica] = true end

local work = 0

local function read_user(user)
  local fields = call('HGETALL', K.user .. user)
  work = work + 3 + #fields / 2
  local connections, last_seen = {}, ''
  local recoverable = L.recovery == 0 and 0 or call('ZCOUNT', K.parked .. 'u:' .. user, '(' .. now, '+inf')
  for i = 1, #fields, 2 do
    if fields[i] == '' then
      last_seen = fields[i + 1]
    else
      local replica = string.match(fields[i + 1], '^(%S+) ')
      if replica and is_living[replica] then
        connections[#connections + 1] = fields[i]
        connections[#connections + 1] = fields[i + 1]
      elseif replica then
        if is_expired[replica] then recoverable = recoverable + 1 end
        local ended_at = call('ZSCORE', K.leases, replica) or call('HGET', K.dead, replica)
        if ended_at then last_seen = string.format('%.3f', tonumber(ended_at) / 1000) end
      end
    end
  end
  local version = string.match(call('GET', K.presence .. user) or '', '^%d (%d+) ') or ''
  return { connections, #connections == 0 and last_seen or '', recoverable, version }
end

local answers = {}
for i = 2, #ARGV do
  answers[i - 1] = read_user(ARGV[i])
  if work >= MAX_WORK then break end
end
return answers
