-- Find out whether entries that a replica knows of are lost, and whether all replicas know it: by a marker in the log
-- that is newer than the last entry that the replica saw of the lost ones, or because the log began later than that.
-- Arguments: how long ago it saw that entry (ms), '1' if it knows already that some are lost, positions of entries that
-- it knows of …
-- Returns 0 if none is lost, 1 if some are and not all replicas know, 2 if all replicas know; and a name for
-- the marker to append: replicas that look at the same time get the same one, and a later one gets another.
local now = now_ms()
local seen_at = now - tonumber(ARGV[2])
local line = call('GET', K.head)
if not line then return { 2, '' } end
local head = parse_head(line)
if head.created_at > seen_at then return { 2, '' } end

local function is_lost(position)
  return parse_position(position) >= head.created_at and is_after(position, head.cut) and position ~= head.newest
    and not was_kept(position)
end

local lost = ARGV[3] == '1'
for i = 4, #ARGV do lost = lost or is_lost(ARGV[i]) end
if not lost then return { 0, '' } end
local marker = call('LINDEX', K.index .. K.losses, -1)
local marked_at = marker and parse_position(marker) or 0
-- A marker of the future was marked when the clock showed another time.
return { marked_at >= seen_at and marked_at <= now + 1000 and 2 or 1,
  (marker or '') .. '.' .. math.floor(now / 10000) }
