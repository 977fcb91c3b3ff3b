-- Take a token from a bucket. A bucket is stored as the moment at which it will be full (GCRA).
-- Arguments: bucket, tokens per second, burst.
-- Returns whether the token was taken, tokens left, seconds until the bucket is full, seconds until the next token.
local key, per_second, burst = K.rate .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms() / 1000
-- No more than the burst can be missing; it would be after the clock was set back.
local missing = math.min(burst, math.max(0, tonumber(call('GET', key) or now) - now) * per_second)
local left = burst - missing
-- The part of a token that floating point may subtract from one that is exactly due.
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
