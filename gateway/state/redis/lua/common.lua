-- Precedes the scripts that name it (scripts.py), behind clock.lua. K stands for the names of keys (redis_keys.py), L for
-- limits (limits.py): scripts.py writes them into the text as constants.
-- ARGV[1] is the deadline (ms), at which the caller gives up: a script that has not begun by then must do nothing.
-- Words: an address is a room of a namespace, or a whole namespace (`<namespace>,<room>` or `<namespace>`). A lease
-- expires, and its replica is reaped then; K.dead holds replicas whose lease has expired. A session is in use while its
-- connection is open, and parked afterwards; K.left holds the parked ones.

-- The head is the metadata of the log. It is one line, because every push reads and writes it. Its fields, in order:
--   generation                                  names this log: the time at which it was created, in microseconds
--   nonces_since                                since when every nonce is stored (s): older requests are rejected
--   created_at                                  when the log was created (ms)
--   newest                                      the newest position
--   entries, bytes                              the sums of all entries ever appended to this log, and of their bytes
--   cut, cut_entries, cut_bytes                 the newest trimmed position, and the two sums up to there
--   segment_entries, segment_bytes, segment_at  the two sums where the open segment began, and when it began (ms)
--   ids, ids_at                                 how many ids K.ids_new holds, and when it began (ms)
local HEAD = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$'

local function write_head(h)
  call('SET', K.head, h.generation .. ' ' .. h.nonces_since .. ' ' .. h.created_at .. ' ' .. h.newest
    .. ' ' .. h.entries .. ' ' .. h.bytes .. ' ' .. h.cut .. ' ' .. h.cut_entries .. ' ' .. h.cut_bytes
    .. ' ' .. h.segment_entries .. ' ' .. h.segment_bytes .. ' ' .. h.segment_at
    .. ' ' .. h.ids .. ' ' .. h.ids_at, 'KEEPTTL')
end

-- Begin the store of nonces anew, because earlier ones may be lost.
local function begin_nonces(head, now)
  head.nonces_since = math.ceil(now / 1000)
  write_head(head)
end

local function parse_head(line)
  local generation, nonces_since, created_at, newest, entries, bytes, cut, cut_entries, cut_bytes, segment_entries,
    segment_bytes, segment_at, ids, ids_at = string.match(line, HEAD)
  return {
    generation = generation, nonces_since = tonumber(nonces_since), created_at = tonumber(created_at), newest = newest,
    entries = tonumber(entries), bytes = tonumber(bytes), cut = cut, cut_entries = cut_entries, cut_bytes = cut_bytes,
    segment_entries = tonumber(segment_entries), segment_bytes = tonumber(segment_bytes),
    segment_at = tonumber(segment_at), ids = tonumber(ids), ids_at = tonumber(ids_at),
  }
end

-- Read the head. Without one, create it, and with it a new generation of the log; what is left of the former log is
-- deleted. The former log may have assigned positions of this millisecond, so the new one begins in the next. Its start
-- is a position, too: a client that connects before the first entry gets it. The last three digits of the generation
-- are in the start, so that the starts of two logs of one millisecond differ.
local function read_or_create_head(now)
  local line = call('GET', K.head)
  if line then
    local h = parse_head(line)
    -- The clock was set back: until it shows that time again, no timestamp would be late enough.
    if h.nonces_since * 1000 > now + L.clock_tolerance then begin_nonces(h, now) end
    return h
  end
  local time = call('TIME')
  local start = (now + 1) .. '-' .. tonumber(time[2]) % 1000 * 1000
  local h = {
    generation = time[1] .. string.format('%06d', tonumber(time[2])), nonces_since = math.ceil(now / 1000),
    created_at = now + 1, newest = start, entries = 0, bytes = 0, cut = start, cut_entries = 0, cut_bytes = 0,
    segment_entries = 0, segment_bytes = 0, segment_at = now, ids = 0, ids_at = now,
  }
  call('UNLINK', K.log, K.segments, K.ids_new, K.ids_old, K.indexed, K.index_state, K.erased)
  -- Nothing of an older release is here.
  call('SET', K.former_sids, 0, 'PX', L.keep)
  write_head(h)
  call('PEXPIRE', K.head, L.keep)
  return h
end

-- What the indexes take (bytes), and the newest position of an index that was removed although a client may ask for it.
local function read_index_state()
  local bytes, dropped = string.match(call('GET', K.index_state) or '0 0-0', '^(%S+) (%S+)$')
  return tonumber(bytes), dropped
end

--#include positions

-- The replicas whose lease has not expired.
local function living_replicas(now)
  return call('ZRANGEBYSCORE', K.leases, '(' .. now, '+inf')
end

-- The replicas whose lease expired within the recovery window: their clients may still resume.
local function expired_replicas(now)
  if L.recovery == 0 then return {} end
  local expired = call('ZRANGEBYSCORE', K.leases, now - L.recovery, now)
  local dead = call('HGETALL', K.dead)
  for i = 1, #dead, 2 do
    if tonumber(dead[i + 1]) + L.recovery > now then expired[#expired + 1] = dead[i] end
  end
  return expired
end

-- Count the connections at an address, without those of replicas whose lease has expired.
local function count_connections(address, replicas)
  local sum = 0
  if #replicas > 0 then
    for _, count in ipairs(call('HMGET', K.room .. address, unpack(replicas))) do
      if count then sum = sum + tonumber(count) end
    end
  end
  return sum
end

-- Count the sessions that may be resumed and whose connection is gone from an address: parked ones, and those of
-- replicas whose lease has expired and that are not reaped yet.
local function count_recoverable(address, expired, now)
  if L.recovery == 0 then return 0 end
  return call('ZCOUNT', K.parked .. address, '(' .. now, '+inf') + count_connections(address, expired)
end
