-- shard.lua stands in front of every other script of this folder; lua.go joins them. It has no effect by itself.
--
-- A shard is seven keys with one hash tag. Every script gets all of them, in this order:
--   KEYS[1] meta      hash: epoch, closed (0 or 1), seq, available, held, sold, fresh, known, since
--   KEYS[2] holds     hash: id of a hold -> state letter, quantity, ' ', seq of its last touch, ' ', buyer
--                     F fresh, D doomed, O ordered, and the markers V void and S sold
--   KEYS[3] buyers    hash: buyer -> units that count against the buyer's limit (held and sold); never 0
--   KEYS[4] young     set: fresh and doomed holds last touched after meta.since
--   KEYS[5] old       set: the other fresh and doomed holds
--   KEYS[6] log       list: the 8-byte hash of every name in holds, in the order in which they came
--   KEYS[7] restocks  hash: id of a restock -> units
-- and begins with the same arguments:
--   ARGV[1] epoch     the caller's
--   ARGV[2] seen      the highest seq of this epoch that the caller has seen
--   ARGV[3] channel   where crossings are published
--   ARGV[4] item      for that message
--
-- Replies begin with a code. OK is followed by seq, available, known and what the script adds; LOST, CLOSED and EPOCH are
-- followed by the shard's epoch, and nothing was changed.
--
-- Invariants, between any two scripts on an open shard:
--   held = sum of the quantities of F, D and O; fresh = that of F and D; young and old together hold just the F and D;
--   buyers = sums over F, D, O and S by buyer, '' left out; known = length of log = size of holds;
--   available + held + sold changes by restock, by open and by a withdrawal's settle only.
--   available > 0 or not changes only together with a message on the channel.
--   Every write takes one seq, so (epoch, seq) names one state of the shard.
--
-- No command behind a script's first write can fail, but on keys that somebody else made: an error reply means that
-- nothing was changed. PUBLISH, which an ACL may forbid, is a pcall: the watchers' poll finds what it would have said.
--
-- Cost: few commands over many arguments. CHUNK keeps unpack within the stacks of Redis (8000) and gopher-lua (5120, of
-- which table.concat needs two per element).
local KEYS, ARGV = KEYS, ARGV -- globals are slow
local META, HOLDS, BUYERS, YOUNG, OLD, LOG, RESTOCKS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local OK, LOST, EPOCH, CLOSED = 0, 1, 2, 3
local CHUNK = 1000

-- read returns the shard's numbers; a shard that isn't there is all zeros.
local function read()
  local m = redis.call('HMGET', META, 'epoch', 'closed', 'seq', 'available', 'held', 'sold', 'fresh', 'known', 'since')
  for i = 1, 9 do
    m[i] = tonumber(m[i] or 0)
  end
  return {
    epoch = m[1], closed = m[2] == 1, seq = m[3], available = m[4], held = m[5], sold = m[6], fresh = m[7], known = m[8],
    since = m[9], before = m[4],
  }
end

-- refusal returns the reply to a call that this shard must not take, or nil. A closed shard whose epoch somebody saw open
-- has forgotten that it was opened, so lost is asked first.
local function refusal(s)
  local epoch = tonumber(ARGV[1])
  if s.epoch < epoch then
    return {LOST, s.epoch}
  elseif s.epoch > epoch then
    return {EPOCH, s.epoch}
  elseif s.seq < tonumber(ARGV[2]) then
    return {LOST, s.epoch}
  elseif s.closed then
    return {CLOSED, s.epoch}
  end
  return nil
end

-- begin reads the shard for a write, which takes the next seq; now is that seq as it stands in holds.
local function begin()
  local s = read()
  local no = refusal(s)
  s.seq = s.seq + 1
  s.now = string.format('%.0f', s.seq)
  return s, no
end

-- commit writes the numbers back and announces a crossing.
local function commit(s)
  redis.call('HSET', META, 'seq', s.seq, 'available', s.available, 'held', s.held, 'sold', s.sold, 'fresh', s.fresh,
    'known', s.known, 'since', s.since)
  if (s.before > 0) ~= (s.available > 0) then
    redis.pcall('PUBLISH', ARGV[3], string.format('%s %.0f %.0f %.0f %.0f', ARGV[4], s.epoch, s.seq, s.available, s.known))
  end
end

-- hmget reads many fields; what isn't there is false.
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

-- call gives a command all of args, CHUNK at a time, and none when there are none.
local function call(command, key, args)
  for i = 1, #args, CHUNK do
    redis.call(command, key, unpack(args, i, math.min(i + CHUNK - 1, #args)))
  end
end

-- parse splits a value of holds into strings. A value is put together again with '..': string.format, and numbers in '..', cost
-- more than all the rest of a hold.
local function parse(value)
  return string.match(value, '^(%a)(%d+) (%d+) (.*)$')
end

-- args returns every step-th argument, beginning with ARGV[first].
local function args(first, step)
  local out, n = {}, 0
  for i = first, #ARGV, step do
    n = n + 1
    out[n] = ARGV[i]
  end
  return out
end

-- index returns id -> value for the holds named ids; false is a hold that isn't there.
local function index(ids)
  local values, out = hmget(HOLDS, ids), {}
  for i = 1, #ids do
    out[ids[i]] = values[i]
  end
  return out
end

-- tally returns buyer -> units for the distinct buyers among names, '' left out.
local function tally(names)
  local distinct, counts, n = {}, {}, 0
  for i = 1, #names do
    local name = names[i]
    if name ~= '' and not counts[name] then
      n = n + 1
      distinct[n] = name
      counts[name] = 0
    end
  end
  local values = hmget(BUYERS, distinct)
  for i = 1, n do
    counts[distinct[i]] = tonumber(values[i] or 0)
  end
  return counts
end

-- writeTally writes those counts back whose buyers are in changed (buyer -> true).
local function writeTally(counts, changed)
  local set, del = {}, {}
  for buyer in pairs(changed) do
    if counts[buyer] > 0 then
      set[#set + 1] = buyer
      set[#set + 1] = counts[buyer]
    else
      del[#del + 1] = buyer
    end
  end
  call('HSET', BUYERS, set)
  call('HDEL', BUYERS, del)
end
