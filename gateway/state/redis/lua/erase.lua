-- Remove messages from the log, and their positions from the indexes, as if they had never been accepted. K.erased keeps
-- the positions as long as the log would have held the messages: where one is looked for, it is not lost.
-- Arguments: pairs of a position and an address whose index has it; for each message first the position and ''. A script
-- that has taken long enough leaves the last pairs for another one.
-- Returns how many pairs are done, and how many messages the log held.
local MAX_CALLS = 250
local calls, done, removed = 0, 0, 0

local function counted(...)
  calls = calls + 1
  return call(...)
end

-- Where the last position of an index was found: the messages rise, so the next one is behind it, and mostly near.
local places = {}

-- The place of the first position of an index that is not before another one.
local function place_of(key, position)
  local function is_before(place)
    local found = counted('LINDEX', key, place)
    return found and is_after(position, found)
  end
  local low, step = places[key] or 0, 1
  if not is_before(low) then return low end
  while is_before(low + step) do
    low, step = low + step, 4 * step
  end
  local high = low + step
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if is_before(middle) then low = middle else high = middle end
  end
  return high
end

-- A list of Redis loses elements cheaply only at its ends. Inside it, the position becomes a copy of the one before it,
-- which readers take once. Returns whether the script had the time for all copies.
local function remove_from_index(key, position)
  local place = place_of(key, position)
  local before = place > 0 and counted('LINDEX', key, place - 1)
  while counted('LINDEX', key, place) == position do
    if calls > 2 * MAX_CALLS then return false end
    if before then
      counted('LSET', key, place, before)
      place = place + 1
    else
      counted('LPOP', key)
    end
  end
  places[key] = math.max(0, place - 1)
  return true
end

for i = 2, #ARGV, 2 do
  if calls > MAX_CALLS then break end
  local position, address = ARGV[i], ARGV[i + 1]
  if address ~= '' then
    if not remove_from_index(K.index .. address, position) then break end
  elseif counted('XDEL', K.log, position) == 1 then
    counted('ZADD', K.erased, (parse_position(position)), position)
    removed = removed + 1
  end
  done = done + 1
end
if removed > 0 then call('PEXPIRE', K.erased, L.keep) end
return { done, removed }
