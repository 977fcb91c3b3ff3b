-- Nonces: a script checks the nonce of a request before it writes anything, and stores it afterwards.

local function nonce_window(now)
  return math.floor(now / L.nonce_window)
end

-- Check by the rules of NonceEpoch (domain/dedup.py) that a request was not accepted by a store that was lost. Returns
-- nil, or how many seconds later one from the same backend passes. The floors of keys also hold what replicas
-- have reported (raise_floors.lua). `latest` is the latest time that the clocks of the replica show (ms).
local function wait_for_fresh(now, head, key_id, signed_at, latest)
  local age = now / 1000 - head.nonces_since
  local floor = tonumber(call('HGET', K.floors, key_id) or 0)
  if age < 2 * L.window then floor = math.max(floor, head.nonces_since) end
  local ahead = signed_at - math.min(math.max(latest, now), now + L.clock_tolerance) / 1000
  if age < L.window and ahead > 0 then
    local learned = math.ceil(head.nonces_since + ahead)
    if learned > floor then
      floor = learned
      call('HSET', K.floors, key_id, floor)
      call('PEXPIRE', K.floors, L.keep)
    end
    if ahead > L.ahead then return math.ceil(L.window - age) end
  end
  if signed_at < floor then return floor - signed_at end
end

-- Check whether a nonce may be used. Returns nil and the number of nonces in this window, or the code of a rejection and
-- after how many seconds another request is not rejected for it.
-- `known_since` is `nonces_since` as the replica knows it: 'BEGAN' if that has changed, so that the replica can report.
-- `request` is what equals in a retransmission of the request, or ''. A retransmission of a request that consumed its
-- nonce is 'RETRANSMITTED' and not 'REPLAYED'.
-- A nonce is kept in the window in which it is used. Two windows are longer than any nonce has to be kept. The windows
-- ahead are checked, too, because a clock may be set back. 'CLOCK': the clock of Redis was set, or that of the replica
-- is wrong, so that a used nonce may be in none of these windows.
local function check_nonce(now, head, digest, ends, signed_at, key_id, known_since, latest, request)
  if ends <= now or ends > now + 2 * L.nonce_window then return 'CLOCK', 5 end
  local window = nonce_window(now)
  for each = window - 2, window + 2 do
    if call('SISMEMBER', K.nonces .. each, digest) == 1 then
      return request ~= '' and call('SISMEMBER', K.nonces .. each, request) == 1 and 'RETRANSMITTED' or 'REPLAYED'
    end
  end
  -- The probes have not noticed yet that the clock was set back.
  if now < tonumber(call('GET', K.clock) or 0) - L.clock_tolerance then return 'CLOCK', 5 end
  if signed_at ~= '' then
    if tonumber(known_since) ~= head.nonces_since then return 'BEGAN' end
    local wait = wait_for_fresh(now, head, key_id, tonumber(signed_at), tonumber(latest))
    if wait then return 'UNSURE', wait end
  end
  local nonces_in_window = call('SCARD', K.nonces .. window)
  if nonces_in_window >= L.nonces then return 'FULL' end
  return nil, nonces_in_window
end

-- Store a used nonce; `nonces_in_window` is what the check returned.
local function consume_nonce(now, digest, nonces_in_window, request)
  local key = K.nonces .. nonce_window(now)
  call('SADD', key, digest)
  if request ~= '' then call('SADD', key, request) end
  if nonces_in_window == 0 then call('PEXPIRE', key, 5 * L.nonce_window) end
end
