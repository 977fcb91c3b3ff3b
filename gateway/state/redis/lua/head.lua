-- Return the generation of the log and its newest position; create the log if there is none.
local head = read_head(now_ms())
return { head.log, head.newest }
