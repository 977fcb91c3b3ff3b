-- Take a token from a bucket. A bucket is stored as the moment at which it will be full (GCRA). A bucket that is full is
-- not stored; beyond L.rate_buckets the one that will be full first counts as full.
-- Arguments: bucket, tokens per second, burst.
-- Returns whether the token was taken, tokens left, seconds until the bucket is full, seconds until the next token.
local bucket, per_second, burst = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms() / 1000
-- No more than the burst can be missing; it would be after the clock was set back.
local missing = math.min(burst, math.max(0, tonumber(call('ZSCORE', K.rates, bucket) or now) - now) * per_second)
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
if call('ZADD', K.rates, string.format('%.6f', now + reset), bucket) == 1 then
  call('PEXPIRE', K.rates, L.keep)
  for _, oldest in ipairs(call('ZRANGEBYSCORE', K.rates, '-inf', now, 'LIMIT', 0, 2)) do
    call('ZREM', K.rates, oldest)
  end
  if call('ZCOUNT', K.rates, '-inf', '+inf') > L.rate_buckets then
    call('ZREM', K.rates, call('ZRANGEBYSCORE', K.rates, '-inf', '+inf', 'LIMIT', 0, 1)[1])
  end
end
return answer(1, math.max(0, math.floor(left - 1 + TOLERANCE)), reset, 0)
