-- Remove messages that users received. A script that has examined enough leaves the last users for another one.
-- Arguments: for each user 2 the address; 3 the number of ids; the ids. Returns how many users are done.
local now = now_ms()
local at, examined, done = 2, 0, 0
while at <= #ARGV and examined < L.kept_examined do
  local address, received = ARGV[at], {}
  local last = at + 1 + tonumber(ARGV[at + 1])
  for i = at + 2, last do received[ARGV[i]] = true end
  read_sizes({ address })
  examined = examined + 1 + remove_messages(address, now, function(id) return received[id] end)
  at, done = last + 1, done + 1
end
write_sizes()
return done
