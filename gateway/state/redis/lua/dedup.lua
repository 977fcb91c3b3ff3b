-- The two halves of a claim: looked at before anything is done, kept after.

local function nonce_window(now)
  return math.floor(now / L.nonce_window)
end

-- Whether the nonce may be spent: nil and how many were in this window, or why not. A nonce is kept in the window of its spending; windows are as long
-- as two of them are longer than any nonce must be kept. The one ahead is looked at because a clock may be set back.
local function refuse_nonce(now, head, digest, ends, signed_at)
  if signed_at ~= '' and tonumber(signed_at) < head.began then return 'BEGAN' end
  if ends <= now then return 'REPLAYED' end
  if ends > now + 2 * L.nonce_window then return 'AHEAD' end
  local window = nonce_window(now)
  for each = window - 2, window + 1 do
    if call('SISMEMBER', K.nonces .. each, digest) == 1 then return 'REPLAYED' end
  end
  local held = call('SCARD', K.nonces .. window)
  if held >= L.nonces then return 'FULL' end
  return nil, held
end

local function spend_nonce(now, digest, held)
  local key = K.nonces .. nonce_window(now)
  call('SADD', key, digest)
  if held == 0 then call('PEXPIRE', key, 5 * L.nonce_window) end
end
