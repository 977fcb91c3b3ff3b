-- Whether the log holds the entry at a position that was not trimmed, or held it until it was erased (erase.lua): so it
-- is not lost. Messages are erased rarely: the log is looked at first.
local function was_kept(position)
  return #call('XRANGE', K.log, position, position) == 1 or call('ZSCORE', K.erased, position) ~= false
end
