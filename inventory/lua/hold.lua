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
local now, hashes = ' ' .. s.now .. ' ', ARGV[5]
local verdicts, young, old, names = {}, {}, {}, {}
local put, n = {}, 0

local function write(id, value)
  holds[id] = value
  put[n + 1] = id
  put[n + 2] = value
  n = n + 2
  young[#young + 1] = id
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
  if touch ~= s.now then
    write(id, 'F' .. held .. now .. buyer)
    old[#old + 1] = id
  end
  return '2'
end

local available = s.available
for i = 1, #ids do
  local a = 4 * i + 3
  local id, buyer, quantity = ids[i], ARGV[a], ARGV[a + 1]
  if holds[id] then
    verdicts[i] = meet(id, quantity)
  elseif available <= 0 then
    verdicts[i] = '6'
  else
    local units, limit, count = tonumber(quantity), tonumber(ARGV[a + 2]), counts[buyer]
    if limit > 0 and count and count + units > limit then
      verdicts[i] = '7'
    elseif available < units then
      verdicts[i] = '6'
    else
      available = available - units
      if count then
        counts[buyer] = count + units
        changed[buyer] = true
      end
      write(id, 'F' .. quantity .. now .. buyer)
      names[#names + 1] = string.sub(hashes, 8 * i - 7, 8 * i)
      verdicts[i] = '1'
    end
  end
end
local taken = s.available - available
s.available, s.held, s.fresh, s.known = available, s.held + taken, s.fresh + taken, s.known + #names
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
