-- Raise the floors of ingest keys: a replica reports the newest timestamps that it accepted, whose nonces may be lost.
-- Arguments: for each key its id, and the oldest timestamp that is accepted from now on (s).
for i = 2, #ARGV, 2 do
  if tonumber(ARGV[i + 1]) > tonumber(call('HGET', K.floors, ARGV[i]) or 0) then
    call('HSET', K.floors, ARGV[i], ARGV[i + 1])
  end
end
call('PEXPIRE', K.floors, L.keep)
