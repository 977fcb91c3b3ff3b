-- Take a token from a bucket. Of each only the moment is kept at which it will be full.
-- bucket, tokens a second, burst
local key, per_second, burst = K.rate .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms() / 1000
local missing = math.max(0, tonumber(call('GET', key) or now) - now) * per_second
local left = burst - missing
-- Of a token: what floating point may take away from one that is exactly due.
local TOLERANCE = 1e-6
local function answer(allowed, remaining, reset, retry)
  return { allowed, remaining, string.format('%.6f', reset), string.format('%.6f', retry) }
end
if left < 1 - TOLERANCE then
  return answer(0, 0, missing / per_second, (1 - left) / per_second)
end
local reset = (missing + 1) / per_second
call('SET', key, string.format('%.6f', now + reset), 'PX', math.ceil(reset * 1000))
return answer(1, math.max(0, math.floor(left - 1 + TOLERANCE)), reset, 0)
