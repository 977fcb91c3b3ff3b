-- The two numbers of a position.
local function parse_position(position)
  local ms, sequence = string.match(position, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(sequence)
end

local function is_after(a, b)
  local a_ms, a_sequence = parse_position(a)
  local b_ms, b_sequence = parse_position(b)
  return a_ms > b_ms or (a_ms == b_ms and a_sequence > b_sequence)
end
