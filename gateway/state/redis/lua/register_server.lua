-- Register the server that a new connection reached. A server that no replica has reached before may have lost nonces,
-- because it did not receive or did not save them: so their memory begins anew. There is no deadline: executed later
-- this does no harm.
-- Arguments: identity of the server and its data.
-- Returns since when nonces are remembered.
local now = now_ms()
local head = read_head(now)
if call('GET', K.server) ~= ARGV[1] then
  head.began = math.max(head.began, math.ceil(now / 1000))
  write_head(head)
  call('SET', K.server, ARGV[1])
end
call('PEXPIRE', K.server, L.keep)
return head.began
