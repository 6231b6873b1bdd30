-- hold.lua takes units for many buyers, or says why not.
--
-- ARGV[5]  the 8-byte hashes of all ids, joined
-- ARGV[6]  n, the number of holds
-- ARGV[7]  the quantity of every hold, '' where they differ
-- ARGV[8]  the limit of every hold (0 is none), '' where they differ
-- then columns of n each: ids; buyers ('' for a merchant); quantities, only where they differ; limits, only where they differ
--
-- Reply: {OK, seq, available, known, verdicts}: one character per hold, a digit as in Go's Verdict:
--   1 held, 2 again (fresh), 3 ordered, 4 ended, 5 doomed, 6 sold out, 7 over the limit, 8 reused with another quantity
--
-- Invariant: available never falls below 0 here. A name that is there decides first, whatever the stock; then an empty shard; then
-- the buyer's limit; then the quantity. Refused holds write nothing. A hold met again is touched: it becomes young.
-- Holds of one call are taken in their order and see each other.
--
-- Cost: HMGET holds, HMGET buyers (not when empty); then as needed HSET holds, SADD young, SREM old, RPUSH log, HSET buyers; HSET
-- meta. O(holds of the call). In a flood Redis does little else, so this script is written for speed: columns go to HMGET as they
-- came, replies are read by position, equal texts are made once, and the loop calls no Lua function for a hold that it gives.
local s, no = begin()
if no then
  return no
end
local hashes, n = ARGV[5], tonumber(ARGV[6])
local allQuantity, allLimit = ARGV[7] ~= '' and ARGV[7], ARGV[8] ~= '' and ARGV[8]
local ids = 8 -- element i of a column is ARGV[column + i]
local buyers = ids + n
local quantities = buyers + n
local limits = allQuantity and quantities or quantities + n

-- lookup reads the fields that a column names; what isn't there is false.
local function lookup(key, column)
  if n <= CHUNK then
    return redis.call('HMGET', key, unpack(ARGV, column + 1, column + n))
  end
  local out = {}
  for i = 1, n, CHUNK do
    local part = redis.call('HMGET', key, unpack(ARGV, column + i, column + math.min(i + CHUNK - 1, n)))
    for j = 1, #part do
      out[i + j - 1] = part[j]
    end
  end
  return out
end

-- meet returns the verdict on a hold that is there, and what becomes of it, nil where it stays as it is.
local function meet(value, quantity, now)
  local state, held, touch, buyer = parse(value)
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
    return '2', 'F' .. held .. now .. buyer
  end
  return '2'
end

local available, now = s.available, ' ' .. s.now .. ' '
local holds, counts = lookup(HOLDS, ids), {} -- before this call, by position
if available > 0 then
  counts = lookup(BUYERS, buyers)
end
-- What this call writes, to look it up and as the commands take it. A buyer's count comes as often as it changes: of a field that
-- comes twice HSET keeps the last value.
local newHolds, holdPairs, young, old, written = {}, {}, {}, {}, 0
local newCounts, countPairs, texts, counted = {}, {}, {}, 0
local verdicts, names, given = {}, {}, 0
local quantity, units, start, limit, most -- of the hold before, mostly the next one's too
for i = 1, n do
  local id, buyer = ARGV[ids + i], ARGV[buyers + i]
  local q, l = allQuantity or ARGV[quantities + i], allLimit or ARGV[limits + i]
  if q ~= quantity then
    quantity, units, start = q, tonumber(q), 'F' .. q .. now
  end
  if l ~= limit then
    limit, most = l, tonumber(l)
  end
  local value, new = newHolds[id] or holds[i], nil
  if value then
    verdicts[i], new = meet(value, quantity, now)
    if new then
      old[#old + 1] = id
    end
  elseif available <= 0 then
    verdicts[i] = '6'
  else
    local count = buyer ~= '' and (newCounts[buyer] or tonumber(counts[i] or 0))
    if count and most > 0 and count + units > most then
      verdicts[i] = '7'
    elseif available < units then
      verdicts[i] = '6'
    else
      available = available - units
      if count then
        count = count + units
        local text = texts[count]
        if not text then
          text = string.format('%.0f', count)
          texts[count] = text
        end
        newCounts[buyer] = count
        counted = counted + 2
        countPairs[counted - 1] = buyer
        countPairs[counted] = text
      end
      given = given + 1
      names[given] = string.sub(hashes, 8 * i - 7, 8 * i)
      verdicts[i], new = '1', start .. buyer
    end
  end
  if new then
    newHolds[id] = new
    written = written + 1
    young[written] = id
    holdPairs[2 * written - 1] = id
    holdPairs[2 * written] = new
  end
end
local taken = s.available - available
s.available, s.held, s.fresh, s.known = available, s.held + taken, s.fresh + taken, s.known + given
call('HSET', HOLDS, holdPairs)
call('SADD', YOUNG, young)
call('SREM', OLD, old)
call('RPUSH', LOG, names)
call('HSET', BUYERS, countPairs)
commit(s)
local joined = {}
for i = 1, n, CHUNK do
  joined[#joined + 1] = table.concat(verdicts, '', i, math.min(i + CHUNK - 1, n))
end
return {OK, s.seq, s.available, s.known, table.concat(joined)}
