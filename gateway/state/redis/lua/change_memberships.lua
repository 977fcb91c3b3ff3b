-- Count connections at other addresses, and replace their sessions.
-- Arguments: replica, rules, then for each: sid or ''; user and addresses as JSON; pid of its session or ''; owner of the
-- session; the session. A sid that is not registered and a session that is not in use here or has another owner stay.
local replica = ARGV[2]
use_rules(ARGV[3])

-- The addresses that are not among others.
local function without(addresses, others)
  local is_other, rest = {}, {}
  for _, address in ipairs(others) do is_other[address] = true end
  for _, address in ipairs(addresses) do
    if not is_other[address] then rest[#rest + 1] = address end
  end
  return rest
end

local function move(sid, counted)
  local known = call('HGET', K.conns .. replica, sid)
  if not known then return end
  local is, was = cjson.decode(counted), cjson.decode(known)
  local joined = without(is.at, was.at)
  count_at(replica, sid, joined)
  uncount_at(replica, sid, without(was.at, is.at))
  change_member(sid, was, is)
  call('HSET', K.conns .. replica, sid, counted)
  if rules then user_moved(is.user, sid, joined) end
end

for i = 4, #ARGV, 5 do
  if ARGV[i] ~= '' then move(ARGV[i], ARGV[i + 1]) end
  local pid = ARGV[i + 2]
  if pid ~= '' then
    local value = call('HGET', K.sessions .. replica, pid)
    if value and parse_session(value) == ARGV[i + 3] then call('HSET', K.sessions .. replica, pid, ARGV[i + 4]) end
  end
end
