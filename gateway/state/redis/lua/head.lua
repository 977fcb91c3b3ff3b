-- Return the generation of the log and its newest position; create the log if it does not exist.
local head = read_or_create_head(now_ms())
return { head.generation, head.newest }
