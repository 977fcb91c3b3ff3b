-- Arguments: sid.
-- Returns 1 if a connection with this sid is open or may be resumed.
local sid, now = ARGV[2], now_ms()
for _, replicas in ipairs({ living_replicas(now), expired_replicas(now) }) do
  for _, replica in ipairs(replicas) do
    if call('HEXISTS', K.conns .. replica, sid) == 1 then return 1 end
  end
end
return call('EXISTS', K.parked_at .. sid)
