-- hold.lua takes units for many buyers, or says why not.
--
-- ARGV[5]  the 8-byte hashes of all ids, joined
-- then for each hold: id, buyer ('' for a merchant), quantity, limit (0 is none)
--
-- Reply: {OK, seq, available, known, verdicts}: one character per hold, a digit as in Go's Verdict:
--   1 held, 2 again (fresh), 3 ordered, 4 ended, 5 doomed, 6 sold out, 7 over the limit, 8 reused with another quantity
--
-- Invariant: available never falls below 0 here. A name that is there decides first, whatever the stock; then an empty shard; then
-- the buyer's limit; then the quantity. Refused holds write nothing. A hold met again is touched: it becomes young.
-- Holds of one call are taken in their order and see each other.
--
-- Cost: HMGET holds, HMGET buyers (not when empty); then as needed HSET holds, SADD young, SREM old, RPUSH log, HSET buyers; HSET
-- meta. O(holds of the call).
local s, no = begin()
if no then
  return no
end
local ids = args(6, 4)
local holds = index(ids)
local counts, changed = {}, {}
if s.available > 0 then
  counts = tally(args(7, 4))
end
local verdicts, put, young, old, names = {}, {}, {}, {}, {}

local function take(i, id, buyer, quantity)
  s.available = s.available - quantity
  s.held = s.held + quantity
  s.fresh = s.fresh + quantity
  s.known = s.known + 1
  if buyer ~= '' then
    counts[buyer] = counts[buyer] + quantity
    changed[buyer] = true
  end
  holds[id] = format('F', quantity, s.seq, buyer)
  put[#put + 1] = id
  put[#put + 1] = holds[id]
  young[#young + 1] = id
  names[#names + 1] = string.sub(ARGV[5], 8 * i - 7, 8 * i)
end

-- meet returns the verdict on a hold whose name is there.
local function meet(id, quantity)
  local state, held, touch, buyer = parse(holds[id])
  if held ~= quantity then
    return '8'
  elseif state == 'O' then
    return '3'
  elseif state == 'D' then
    return '5'
  elseif state ~= 'F' then
    return '4'
  end
  if touch ~= s.seq then
    holds[id] = format('F', held, s.seq, buyer)
    put[#put + 1] = id
    put[#put + 1] = holds[id]
    young[#young + 1] = id
    old[#old + 1] = id
  end
  return '2'
end

for i = 1, #ids do
  local a = 6 + 4 * (i - 1)
  local id, buyer, quantity, limit = ids[i], ARGV[a + 1], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  if holds[id] then
    verdicts[i] = meet(id, quantity)
  elseif s.available <= 0 then
    verdicts[i] = '6'
  elseif limit > 0 and buyer ~= '' and counts[buyer] + quantity > limit then
    verdicts[i] = '7'
  elseif s.available < quantity then
    verdicts[i] = '6'
  else
    take(i, id, buyer, quantity)
    verdicts[i] = '1'
  end
end
call('HSET', HOLDS, put)
call('SADD', YOUNG, young)
call('SREM', OLD, old)
call('RPUSH', LOG, names)
writeTally(counts, changed)
commit(s)
local joined = {}
for i = 1, #verdicts, CHUNK do
  joined[#joined + 1] = table.concat(verdicts, '', i, math.min(i + CHUNK - 1, #verdicts))
end
return {OK, s.seq, s.available, s.known, table.concat(joined)}
