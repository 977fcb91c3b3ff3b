-- Before every script. K stands for the names of keys (keys.py), L for limits (state.py): constants, written in by
-- scripting.py. Times are milliseconds.
-- L.shift moves the clock. It is 0 except in tests, which have no other way to make what a real server keeps older.
-- ARGV[1] is the deadline: whoever asked gives up then, so what has not begun by then must not happen any more.
local call = redis.call

local function now_ms()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + L.shift
end

local function whole(number)
  return string.format('%.0f', number)
end

-- The head of the log; it makes a new one where there is none, which starts a new generation of everything here.
local function read_head(now)
  local h = call('HMGET', K.head, 'log', 'began', 'made', 'newest', 'entries', 'bytes', 'cut',
    'segment_entries', 'segment_bytes', 'segment_at', 'ids', 'ids_at', 'cut_entries', 'cut_bytes')
  if not h[1] then
    local time = call('TIME')
    local log = time[1] .. string.format('%06d', tonumber(time[2]))
    local began = whole(math.ceil(now / 1000))
    call('UNLINK', K.log, K.segments, K.ids_new, K.ids_old)
    call('HSET', K.head, 'log', log, 'began', began, 'made', whole(now), 'newest', '0-0', 'entries', 0, 'bytes', 0,
      'cut', '0-0', 'segment_entries', 0, 'segment_bytes', 0, 'segment_at', whole(now), 'ids', 0,
      'ids_at', whole(now), 'cut_entries', 0, 'cut_bytes', 0)
    call('PEXPIRE', K.head, L.keep)
    h = { log, began, now, '0-0', 0, 0, '0-0', 0, 0, now, 0, now, 0, 0 }
  end
  return {
    log = h[1], began = tonumber(h[2]), made = tonumber(h[3]), newest = h[4], entries = tonumber(h[5]),
    bytes = tonumber(h[6]), cut = h[7], segment_entries = tonumber(h[8]), segment_bytes = tonumber(h[9]),
    segment_at = tonumber(h[10]), ids = tonumber(h[11]), ids_at = tonumber(h[12]), cut_entries = tonumber(h[13]),
    cut_bytes = tonumber(h[14]),
  }
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
  return call('ZRANGEBYSCORE', K.leases, '(' .. whole(now), '+inf')
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
