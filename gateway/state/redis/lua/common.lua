-- Before every script. K stands for the names of keys (keys.py), L for limits (state.py): constants, written in by
-- scripting.py. Times are milliseconds, which Lua writes as whole numbers (up to 14 digits).
-- L.shift moves the clock. It is 0 except in tests, which have no other way to make what a real server keeps older.
-- ARGV[1] is the deadline: whoever asked gives up then, so what has not begun by then must not happen any more.
local call = redis.call

local function now_ms()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + L.shift
end

-- The head of the log is one line, because every push reads and writes it: the generation of the log, since when nonces
-- are remembered (s) and when the log was made (ms), the newest position; how many entries and bytes there ever were;
-- the newest position that was cut off, and how many there were then; the same where the open segment began, and when;
-- how many ids are in the newer generation of them, and when that began.
local HEAD = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$'

local function write_head(h)
  call('SET', K.head, h.log .. ' ' .. h.began .. ' ' .. h.made .. ' ' .. h.newest .. ' ' .. h.entries .. ' ' .. h.bytes
    .. ' ' .. h.cut .. ' ' .. h.cut_entries .. ' ' .. h.cut_bytes .. ' ' .. h.segment_entries .. ' ' .. h.segment_bytes
    .. ' ' .. h.segment_at .. ' ' .. h.ids .. ' ' .. h.ids_at, 'KEEPTTL')
end

local function parse_head(line)
  local log, began, made, newest, entries, bytes, cut, cut_entries, cut_bytes, segment_entries, segment_bytes,
    segment_at, ids, ids_at = string.match(line, HEAD)
  return {
    log = log, began = tonumber(began), made = tonumber(made), newest = newest, entries = tonumber(entries),
    bytes = tonumber(bytes), cut = cut, cut_entries = cut_entries, cut_bytes = cut_bytes,
    segment_entries = tonumber(segment_entries), segment_bytes = tonumber(segment_bytes),
    segment_at = tonumber(segment_at), ids = tonumber(ids), ids_at = tonumber(ids_at),
  }
end

-- Where there is none, it makes a new one, which starts a new generation of everything here. The former one may have
-- handed out positions of this millisecond, so this one begins in the next. Where it begins is a position too, so that who
-- came before the first entry is known by it: the generation is a time in microseconds, and by the last three of them
-- two logs of one millisecond are apart.
local function read_head(now)
  local line = call('GET', K.head)
  if line then return parse_head(line) end
  local time = call('TIME')
  local start = (now + 1) .. '-' .. tonumber(time[2]) % 1000 * 1000
  local h = {
    log = time[1] .. string.format('%06d', tonumber(time[2])), began = math.ceil(now / 1000), made = now + 1,
    newest = start, entries = 0, bytes = 0, cut = start, cut_entries = 0, cut_bytes = 0, segment_entries = 0,
    segment_bytes = 0, segment_at = now, ids = 0, ids_at = now,
  }
  call('UNLINK', K.log, K.segments, K.ids_new, K.ids_old)
  write_head(h)
  call('PEXPIRE', K.head, L.keep)
  return h
end

local function order(position)
  local ms, sequence = string.match(position, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(sequence)
end

local function is_after(a, b)
  local a_ms, a_sequence = order(a)
  local b_ms, b_sequence = order(b)
  return a_ms > b_ms or (a_ms == b_ms and a_sequence > b_sequence)
end

local function living(now)
  return call('ZRANGEBYSCORE', K.leases, '(' .. now, '+inf')
end

-- Connections at an address, those of dead replicas left out.
local function count_at(name, replicas)
  local sum = 0
  if #replicas > 0 then
    for _, count in ipairs(call('HMGET', K.room .. name, unpack(replicas))) do
      if count then sum = sum + tonumber(count) end
    end
  end
  return sum
end
