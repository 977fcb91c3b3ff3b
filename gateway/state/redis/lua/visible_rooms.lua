-- Read the connections of a user that are open or recoverable: those that were lost last first, and at most 64 KiB.
-- Arguments: user.
-- Returns what K.conns has of them.
local user, now, found, size = ARGV[2], now_ms(), {}, 0

local function add(known)
  if known and size + #known <= 65536 then
    found[#found + 1] = known
    size = size + #known
  end
end

for _, sid in ipairs(call('ZREVRANGEBYSCORE', K.parked .. 'u:' .. user, '+inf', '(' .. now, 'LIMIT', 0, 200)) do
  add(call('GET', K.parked_at .. sid))
end
local records = call('HGETALL', K.user .. user)
for i = 1, #records, 2 do
  local replica = records[i] ~= '' and string.match(records[i + 1], '^(%S+) ')
  if replica then add(call('HGET', K.conns .. replica, records[i])) end
end
return found
