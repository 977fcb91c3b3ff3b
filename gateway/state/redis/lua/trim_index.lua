-- Of the positions that were trimmed from the log the newest stays in an index: it shows that entries for this address
-- are missing. `most`: how many positions are examined.
local function trim_index(key, most)
  local oldest = call('LRANGE', key, 0, most)
  local drop = 0
  while oldest[drop + 2]
    and (not is_after(oldest[drop + 2], head.cut) or parse_position(oldest[drop + 1]) <= now - L.age) do
    drop = drop + 1
  end
  if drop > 0 then call('LTRIM', key, drop, -1) end
end
