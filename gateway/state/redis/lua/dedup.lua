-- Nonces: a script checks the nonce of a request before it writes anything, and stores it afterwards.

local function nonce_window(now)
  return math.floor(now / L.nonce_window)
end

-- Check whether a nonce may be used. Returns nil and the number of nonces in this window, or the code of a rejection.
-- `request` is what equals in a retransmission of the request, or ''. A retransmission of a request that consumed its
-- nonce is 'RETRANSMITTED' and not 'REPLAYED'.
-- A nonce is kept in the window in which it is used. Two windows are longer than any nonce has to be kept. The window
-- ahead is checked, too, because a clock may be set back.
local function check_nonce(now, head, digest, ends, signed_at, request)
  if signed_at ~= '' and tonumber(signed_at) < head.nonces_since then return 'BEGAN' end
  if ends <= now then return 'REPLAYED' end
  if ends > now + 2 * L.nonce_window then return 'AHEAD' end
  local window = nonce_window(now)
  for each = window - 2, window + 1 do
    if call('SISMEMBER', K.nonces .. each, digest) == 1 then
      return request ~= '' and call('SISMEMBER', K.nonces .. each, request) == 1 and 'RETRANSMITTED' or 'REPLAYED'
    end
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
