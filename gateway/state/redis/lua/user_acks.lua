-- What a user has claimed and kept of client events, so that one user cannot fill the store for all. It is counted in
-- windows of time, and an acknowledgement is kept for as long as four of them: those that may still be kept are in the
-- newest five. K.user_acks has a field for each of these, with the number of the window, how many, and how many bytes.
local USER_WINDOWS = 5

local function current_window(now)
  return math.floor(now / L.ack_window)
end

-- How many are counted, how many bytes, and the oldest window that has some.
local function counted_of_user(user, window)
  local sum, bytes, oldest = 0, 0, window
  for _, field in ipairs(call('HVALS', K.user_acks .. user)) do
    local at, count, size = string.match(field, '^(%d+) (%d+) (%d+)$')
    if tonumber(at) > window - USER_WINDOWS then
      sum, bytes, oldest = sum + count, bytes + size, math.min(oldest, at)
    end
  end
  return sum, bytes, oldest
end

-- Add to a window, or subtract from it and change its bytes unless its field has become that of a later window.
local function count_for_user(user, window, change, change_bytes)
  local key, field = K.user_acks .. user, window % USER_WINDOWS
  local at, count, bytes = string.match(call('HGET', key, field) or '', '^(%d+) (%d+) (%d+)$')
  if tonumber(at) ~= window then
    if change < 1 then return end
    count, bytes = 0, 0
  end
  count, bytes = count + change, bytes + change_bytes
  if count < 1 then
    call('HDEL', key, field)
  else
    call('HSET', key, field, window .. ' ' .. count .. ' ' .. bytes)
    call('PEXPIRE', key, USER_WINDOWS * L.ack_window)
  end
end

-- The window in which an event was claimed, if this holder has the claim of it.
local function claimed_in(key, holder)
  local window, of = string.match(call('GET', key) or '', '^c(%d+) (.*)$')
  return of == holder and tonumber(window) or nil
end
