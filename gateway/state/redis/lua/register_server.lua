-- Register the server that a new connection reached. A server that no replica has reached before may have lost nonces,
-- because it did not receive or did not save them: requests signed before now are rejected from now on. There is no
-- deadline: executed later this does no harm.
-- Arguments: identity of the server and its data.
-- Returns since when nonces are stored (s).
local now = now_ms()
local head = read_or_create_head(now)
if call('GET', K.server) ~= ARGV[1] then
  head.nonces_since = math.max(head.nonces_since, math.ceil(now / 1000))
  write_head(head)
  call('SET', K.server, ARGV[1])
  -- Nor need it have the last connections: sweep.lua waits until the replicas have registered them again.
  call('SET', K.swept, now .. ' ' .. now, 'PX', L.keep, 'XX')
end
call('PEXPIRE', K.server, L.keep)
return head.nonces_since
