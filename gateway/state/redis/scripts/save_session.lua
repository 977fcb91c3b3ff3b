-- Keep new sessions of a replica; known ones stay as they are.
-- replica, then for each: pid, session
local own, now = ARGV[2], now_ms()
for i = 3, #ARGV, 2 do
  if call('EXISTS', K.left .. ARGV[i]) == 0 and not find_in_use(ARGV[i], own, now) then
    use(own, ARGV[i], ARGV[i + 1])
  end
end
