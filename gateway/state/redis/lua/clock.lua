-- What every script with a part of common.lua begins with. Times are milliseconds, which Lua writes as whole numbers (up
-- to 14 digits).
-- L.shift is 0. Tests write another value here to move the clock, because the clock of a real server cannot be moved.
local call = redis.call

local function now_ms()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + L.shift
end
