-- Count a failed try of the first notification of a partition.
-- Arguments: webhook, partition, owner, sequence, when it is tried again (ms), status or '', what names this call: a
-- repeated one counts nothing.
-- Returns 'OK' and: sequence, failures, how many of them with others accepted since the failure before, when it is tried
-- again, status or '-', how many notifications the webhook had accepted, the call. 'GONE' if another notification is the
-- first one, 'LOST' to another process; nothing was changed then.
local webhook, partition, sequence = ARGV[2], ARGV[3], ARGV[5]
if not owns(webhook, partition, ARGV[4]) then return { 'LOST' } end

local first = call('XRANGE', stream_of(webhook, partition), '-', '+', 'COUNT', 1)[1]
if not first or first[1] ~= sequence .. '-0' then return { 'GONE' } end

local key, field = K.queue .. webhook, 'f' .. partition
local known = call('HGET', key, field) or ''
local of, failures, beside, accepted_before, name = string.match(known, '^(%d+) (%d+) (%d+) %d+ %S+ (%d+) (%S+)$')
if of == sequence and name == ARGV[8] then return { 'OK', known } end
local accepted = tonumber(call('HGET', key, 'accepted') or 0)
if of ~= sequence then failures, beside, accepted_before = 0, 0, accepted end
if accepted > tonumber(accepted_before) then beside = beside + 1 end
local status = ARGV[7] == '' and '-' or ARGV[7]
known = sequence .. ' ' .. failures + 1 .. ' ' .. beside .. ' ' .. ARGV[6] .. ' ' .. status .. ' ' .. accepted .. ' ' .. ARGV[8]
call('HSET', key, field, known)
call('PEXPIRE', key, L.queue)
return { 'OK', known }
