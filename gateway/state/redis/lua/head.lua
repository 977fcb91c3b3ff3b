-- Which log this is, and where it ends.
local head = read_head(now_ms())
return { head.log, head.newest }
