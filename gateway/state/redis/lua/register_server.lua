-- A connection begins, to a server that it is told by its identity. Whatever this server did not hear of what another
-- one was told, or did not save, may be nonces: the first time somebody meets it their memory begins anew. There is no
-- deadline: later it does no harm.
-- identity
local now = now_ms()
local head = read_head(now)
if call('GET', K.server) ~= ARGV[1] then
  head.began = math.max(head.began, math.ceil(now / 1000))
  write_head(head)
  call('SET', K.server, ARGV[1])
end
call('PEXPIRE', K.server, L.keep)
return head.began
