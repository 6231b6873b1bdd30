-- shard.lua stands in front of every other script of this folder: lua.go joins them. It does
-- nothing by itself. Functions for scripts that no buyer waits for are in books.lua, because each
-- function here costs every call a fraction of a microsecond.
--
-- A shard is five keys with one hash tag. Every script gets them in this order; hold.lua gets the
-- first three only:
--   KEYS[1] shard     hash, of three kinds of fields, which their lengths keep apart:
--     its numbers: epoch, closed (0 or 1), seq, fresh (units), names (heads), items, ordered and
--       sold (digests); and owner, the installation whose shard it is
--     units: item -> available
--     holds: head -> the holds of one buyer on one item, see below
--   KEYS[2] young     list: heads that have a fresh or doomed hold, each behind a byte with its
--     length; several an element
--   KEYS[3] log       list: 'N' and the 8-byte hashes of new heads, or 'C' and the text of
--     crossings, see cross
--   KEYS[4] totals    hash: item -> total, ' ', sold
--   KEYS[5] restocks  hash: item -> ids of its restocks, each behind its length and ':'
-- and begins with the same arguments:
--   ARGV[1] epoch     the caller's
--   ARGV[2] seen      the highest seq of this epoch that the caller has seen
--   ARGV[3] channel   where crossings are published
--   ARGV[4] shard     for that message
-- hold.lua may get several shards, one after the other: base is the number of arguments before
-- those of the current shard.
--
-- A hold's name is head and tail; the tail has 16 bytes. A value of holds is one entry for each
-- hold, the newest first:
--   state letter, quantity, ' ', seq of its last touch, ';', tail
-- and then '=', item, ' ', buyer. States: F fresh, D doomed, O ordered, and the markers V void and
-- S sold. A call has the last tail with what follows as one argument, the body:
--   tail, '=', item, ' ', buyer
-- So a new value is made by one '..'.
--
-- Replies begin with a code. OK is followed by seq, length of the log and the script's own
-- elements; LOST, CLOSED, EPOCH and FOREIGN are followed by the shard's epoch, and nothing was
-- changed.
--
-- Invariants, between any two scripts on an open shard:
--   An item's total = available + sold + the quantities of its F, D and O. Items in units and in
--     totals are the same.
--   fresh = sum of the quantities of F and D; each head that has one of them is in young; names =
--     number of heads.
--   ordered and sold are sums modulo MODULUS over the digests of the holds in O and S, those
--     without a buyer left out.
--   Each head's hash is in log. The last crossing of an item in log says whether it has units; an
--     item without one has.
--   Every write takes one seq, so (epoch, seq) names one state of the shard.
--
-- No command after a script's first write can fail, except on keys that another program made. So an
-- error reply means that nothing was changed. PUBLISH, which an ACL may forbid, is a pcall: the
-- watchers' poll finds the same change.
--
-- Cost: few commands over many arguments. CHUNK keeps unpack within the stacks of Redis (8000) and
-- gopher-lua (5120; table.concat needs two per element).
local KEYS, ARGV = KEYS, ARGV -- access to globals is slow
local SHARD, YOUNG, LOG, TOTALS, RESTOCKS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local OK, LOST, EPOCH, CLOSED, FOREIGN = 0, 1, 2, 3, 4
local base = 0
local CHUNK = 1000
local TAIL = 16
local MODULUS = 281474976710656 -- 2^48

-- text formats a number: '%d' costs a third of '%.0f', and a third of redis.call's own conversion.
local function text(n)
  return string.format('%d', n)
end

-- read returns the shard's numbers, without those of readBooks; all zeros if the shard doesn't
-- exist. m has them if they were read already.
local function read(m)
  m = m or redis.call('HMGET', SHARD, 'epoch', 'closed', 'seq', 'fresh', 'names')
  return {
    epoch = tonumber(m[1] or 0), closed = m[2] == '1', seq = tonumber(m[3] or 0), fresh = tonumber(m[4] or 0),
    names = tonumber(m[5] or 0), crossed = {}, named = '',
  }
end

-- lookup reads the shard's numbers, and after those the fields from ARGV[first + 1] to
-- ARGV[behind]; a missing field is false.
local function lookup(first, behind)
  local upTo = math.min(first + CHUNK, behind)
  local out = redis.call('HMGET', SHARD, 'epoch', 'closed', 'seq', 'fresh', 'names', unpack(ARGV, first + 1, upTo))
  while upTo < behind do
    local from = upTo
    upTo = math.min(from + CHUNK, behind)
    local part = redis.call('HMGET', SHARD, unpack(ARGV, from + 1, upTo))
    for j = 1, #part do
      out[5 + from - first + j] = part[j]
    end
  end
  return out
end

-- refusal returns the reply to a call that this shard must refuse, or nil. LOST is checked first: a
-- shard that was seen open in this epoch and is closed now has lost writes.
local function refusal(s)
  local epoch = tonumber(ARGV[base + 1])
  if s.epoch < epoch then
    return {LOST, s.epoch}
  elseif s.epoch > epoch then
    return {EPOCH, s.epoch}
  elseif s.seq < tonumber(ARGV[base + 2]) then
    return {LOST, s.epoch}
  elseif s.closed then
    return {CLOSED, s.epoch}
  end
  return nil
end

-- begin reads the shard for a write, like read; the write takes the next seq. now is that seq in
-- the form of holds.
local function begin(m)
  local s = read(m)
  local no = refusal(s)
  s.seq = s.seq + 1
  s.now = text(s.seq)
  return s, no
end

-- cross records that an item now has units, or now has none.
local function cross(s, item, has)
  s.crossed[#s.crossed + 1] = item .. (has and '+' or '-')
end

-- join is table.concat for tables of any length.
local function join(pieces, between)
  if #pieces <= CHUNK then
    return table.concat(pieces, between)
  end
  local joined = {}
  for i = 1, #pieces, CHUNK do
    joined[#joined + 1] = table.concat(pieces, between, i, math.min(i + CHUNK - 1, #pieces))
  end
  return table.concat(joined, between)
end

-- keep appends to the log what the script has recorded: s.named, the hashes of new heads, and then
-- the crossings, as seq, and for each ' ', item and '+' or '-'. Watchers read the names before the
-- crossings, so they know all names when an item is sold out.
local function keep(s)
  local crossings = #s.crossed > 0 and s.now .. ' ' .. join(s.crossed, ' ')
  if s.named ~= '' and crossings then
    s.log = redis.call('RPUSH', LOG, 'N' .. s.named, 'C' .. crossings)
  elseif s.named ~= '' then
    s.log = redis.call('RPUSH', LOG, 'N' .. s.named)
  elseif crossings then
    s.log = redis.call('RPUSH', LOG, 'C' .. crossings)
  else
    s.log = redis.call('LLEN', LOG)
  end
  return crossings
end

-- publish writes the log, and publishes crossings.
local function publish(s)
  local crossings = keep(s)
  if crossings then
    redis.pcall('PUBLISH', ARGV[base + 3], ARGV[base + 4] .. ' ' .. text(s.epoch) .. ' ' .. crossings)
  end
end

-- commit writes seq and counts back, and publishes.
local function commit(s)
  redis.call('HSET', SHARD, 'seq', s.now, 'fresh', text(s.fresh), 'names', text(s.names))
  publish(s)
end

-- hmget reads many fields; a missing field is false.
local function hmget(key, fields)
  local n = #fields
  if n == 0 then
    return {}
  elseif n <= CHUNK then
    return redis.call('HMGET', key, unpack(fields))
  end
  local out = {}
  for i = 1, n, CHUNK do
    local part = redis.call('HMGET', key, unpack(fields, i, math.min(i + CHUNK - 1, n)))
    for j = 1, #part do
      out[i + j - 1] = part[j]
    end
  end
  return out
end

-- call runs a command with all of args, CHUNK at a time; without args it runs nothing.
local function call(command, key, args)
  local n = #args
  for i = 1, n, CHUNK do
    redis.call(command, key, unpack(args, i, math.min(i + CHUNK - 1, n)))
  end
end

-- args returns every step-th argument from ARGV[first] to ARGV[last].
local function args(first, last, step)
  local out, n = {}, 0
  for i = first, last, step do
    n = n + 1
    out[n] = ARGV[i]
  end
  return out
end
