-- Append a copy of each message that is kept for a user to the room of one connection, oldest first, each once. Another
-- index has the positions of the copies of all connections of the user: erasing a message erases its copies.
-- Arguments: 2 address of the user; 3 address of the sid; 4 address of the other index; 5 what the ids of the copies
--   begin with; 6 the newest position of a message that is copied, or ''; 7 the pointer to publish instead of a large
--   record; 8 as 13 of append.lua
-- Returns 'OK', the position before the first copy and the newest position, or 'OK' alone if nothing is kept.
local prefix, upto, branch = ARGV[5], ARGV[6], tonumber(ARGV[8])
local marks = { R = string.match(ARGV[3], ',(.*)$') }

local now = now_ms()
local copies, ids = {}, { prefix }
for _, value in ipairs(call('LRANGE', K.kept .. ARGV[2], 0, -1)) do
  local id, ends, position, argument_bytes, record = string.match(value, '^(%S+) (%d+) (%S+) (%d+) (.*)$')
  if tonumber(ends) > now then
    local copy = { id = prefix .. position .. '!' .. string.gsub(id, '%.', '!'), argument_bytes = argument_bytes }
    copy.record, copy.is_old = record, upto ~= '' and is_after(position, upto)
    copies[#copies + 1], ids[#ids + 1] = copy, copy.id
  end
end
if #copies == 0 then return { 'OK' } end

local head = read_or_create_head(now)
--#include log

-- What is known of the copies, by one call for each generation of results: a call costs more than what it looks up.
local known, old = call('HMGET', K.ids_new, unpack(ids)), call('HMGET', K.ids_old, unpack(ids))
local start = known[1] or old[1]
if not start then
  start = head.newest
  store_result(prefix, start)
end
local results, positions, frames = {}, {}, {}
for i, copy in ipairs(copies) do
  if not (copy.is_old or known[i + 1] or old[i + 1]) then
    marks.I = copy.id
    local record = string.gsub(copy.record, '\29([IR])', marks)
    copy.record, copy.record_bytes, copy.first, copy.last = record, #record, 3, 4
    append_to_log(copy, positions)
    results[#results + 1] = copy.id
    results[#results + 1] = copy.id .. ' ' .. head.newest .. ' 0 1 0'
    if #record > L.inline_bytes then record = string.gsub(ARGV[7], '\29([IR])', marks) end
    frames[#frames + 1] = head.newest .. '\n' .. record .. '\30' .. head.generation
  end
end
if #positions > 0 then
  call('HSET', K.ids_new, unpack(results))
  head.ids = head.ids + #positions
  if L.indexed then
    add_all_to_index(ARGV[3], positions)
    add_all_to_index(ARGV[4], positions)
    limit_indexes()
  end
end
write_head(head)
for _, frame in ipairs(frames) do redis.pcall('PUBLISH', K.channel .. ARGV[3], frame) end
return { 'OK', start, head.newest }
