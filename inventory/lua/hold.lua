-- hold.lua takes units for many buyers, or says why not.
--
-- ARGV[5]  n, the number of claims
-- ARGV[6]  the 8-byte hashes of all heads, joined
-- ARGV[7]  the item of every claim, '' where they differ
-- ARGV[8]  the quantity of every claim, '' where they differ
-- ARGV[9]  the most units of a buyer (0 is no limit), '' where they differ
-- ARGV[10] the most holds of a buyer (0 is no limit), '' where they differ
-- then columns of n each: heads; bodies; then, only where they differ: items; quantities; most
-- units; most holds
--
-- Reply: {OK, seq, length of log, verdicts}: one letter per claim, in the order of Go's Verdict:
--   A held, B again (fresh), C ordered, D ended, E doomed, F sold out, G over the limit,
--   H too many, I reused with another quantity, J the shard doesn't know the item
--
-- Invariant: available never falls below 0 here. A name that is there decides first, whatever the
-- stock; then an unknown item; then an item that has nothing; then the buyer's limits; then the
-- quantity. Refused claims write nothing. A hold met again is touched. Claims of one call are taken
-- in their order and see each other.
--
-- Cost: HMGET meta, units and holds; then as needed HSET holds and units, RPUSH young and log; HSET
-- meta. O(claims of the call), and O(holds of a buyer who has some). In a flood Redis does little
-- else, so this script is written for speed: columns go to HMGET as they came, replies are read by
-- position, and the loop calls no Lua function for a buyer's first hold.
local s, no = begin()
if no then
  return no
end
local n, hashes = tonumber(ARGV[5]), ARGV[6]
local heads, bodies = 10, 10 + n -- element i of a column is ARGV[column + i]
local last = bodies
local function column(common)
  if ARGV[common] ~= '' then
    return ARGV[common], nil
  end
  last = last + n
  return nil, last
end
local oneItem, items = column(7)
local oneQuantity, quantities = column(8)
local oneMost, mosts = column(9)
local oneOrders, orders = column(10)

-- lookup reads the fields that a column names; what isn't there is false.
local function lookup(key, first)
  if n <= CHUNK then
    return redis.call('HMGET', key, unpack(ARGV, first + 1, first + n))
  end
  local out = {}
  for i = 1, n, CHUNK do
    local part = redis.call('HMGET', key, unpack(ARGV, first + i, first + math.min(i + CHUNK - 1, n)))
    for j = 1, #part do
      out[i + j - 1] = part[j]
    end
  end
  return out
end

-- What this call changes: item -> available; head -> value; and that as commands take it.
local left, was, touched, stocks = {}, {}, {}, nil
if oneItem then
  local value = redis.call('HGET', UNITS, oneItem)
  left[oneItem] = value and tonumber(value)
  was[oneItem], touched[1] = left[oneItem], oneItem
else
  stocks = lookup(UNITS, items)
end
local holds = lookup(HOLDS, heads)
local written, fields, m = {}, {}, 0
local young, y, sizes = {}, 0, {}
local names, runFrom, runTo, heard, fresh = {}, 1, 0, 0, 0
local verdicts = {}
local quantity, units, start, mostText, most, ordersText, holdsAllowed

-- meet returns the verdict on a claim whose buyer has holds, and the new value, nil where it stays
-- as it is; then whether units are taken, and whether the head goes into young.
local function meet(value, body, available)
  local tail = string.sub(body, 1, TAIL)
  local at, count, used, undecided = 1, 0, 0, false
  while true do
    local state, held, touch, behind = string.match(value, '^(%u)(%d+) (%d+);()', at)
    if not state then
      break
    end
    if string.sub(value, behind, behind + TAIL - 1) == tail then
      if held ~= quantity then
        return 'I'
      elseif state == 'F' then
        if touch == s.now then
          return 'B'
        end
        return 'B', string.sub(value, 1, at - 1) .. start .. string.sub(value, behind)
      end
      return state == 'O' and 'C' or state == 'D' and 'E' or 'D'
    end
    count = count + 1
    if state ~= 'V' then
      used = used + tonumber(held)
    end
    undecided = undecided or state == 'F' or state == 'D'
    at = behind + TAIL
  end
  if not available then
    return 'J'
  elseif available <= 0 then
    return 'F'
  elseif most > 0 and used + units > most then
    return 'G'
  elseif holdsAllowed > 0 and count >= holdsAllowed then
    return 'H'
  elseif available < units then
    return 'F'
  end
  return 'A', start .. tail .. value, true, not undecided
end

for i = 1, n do
  local head, body = ARGV[heads + i], ARGV[bodies + i]
  local item = oneItem or ARGV[items + i]
  local q, l, o = oneQuantity or ARGV[quantities + i], oneMost or ARGV[mosts + i], oneOrders or ARGV[orders + i]
  if q ~= quantity then
    quantity, units, start = q, tonumber(q), 'F' .. q .. ' ' .. s.now .. ';'
  end
  if l ~= mostText then
    mostText, most = l, tonumber(l)
  end
  if o ~= ordersText then
    ordersText, holdsAllowed = o, tonumber(o)
  end
  local available = left[item]
  if available == nil then
    available = stocks[i] and tonumber(stocks[i])
    left[item], was[item] = available, available
    touched[#touched + 1] = item
  end
  local value, new, taken, ripe = written[head] or holds[i], nil, false, false
  if value then
    verdicts[i], new, taken, ripe = meet(value, body, available)
  elseif not available then
    verdicts[i] = 'J'
  elseif available <= 0 then
    verdicts[i] = 'F'
  elseif most > 0 and units > most then
    verdicts[i] = 'G'
  elseif available < units then
    verdicts[i] = 'F'
  else
    verdicts[i], new, taken, ripe = 'A', start .. body, true, true
    heard = heard + 1
    if runTo ~= i - 1 then -- hashes are cut out run by run
      names[#names + 1] = string.sub(hashes, 8 * runFrom - 7, 8 * runTo)
      runFrom = i
    end
    runTo = i
  end
  if new then
    written[head] = new
    fields[m + 1], fields[m + 2] = head, new
    m = m + 2
    if taken then
      left[item] = available - units
      fresh = fresh + units
      if ripe then
        local size = sizes[#head]
        if not size then
          size = string.char(#head)
          sizes[#head] = size
        end
        young[y + 1], young[y + 2] = size, head
        y = y + 2
      end
    end
  end
end
call('HSET', HOLDS, fields)
local shelf, c = {}, 0
for i = 1, #touched do
  local item = touched[i]
  local now = left[item]
  if now ~= was[item] then
    shelf[c + 1], shelf[c + 2] = item, text(now)
    c = c + 2
    if now <= 0 then
      cross(s, item, false)
    end
  end
end
call('HSET', UNITS, shelf)
if y > 0 then
  redis.call('RPUSH', YOUNG, join(young, ''))
end
if heard == n then
  s.named = hashes
elseif heard > 0 then
  names[#names + 1] = string.sub(hashes, 8 * runFrom - 7, 8 * runTo)
  s.named = join(names, '')
end
s.fresh, s.names = s.fresh + fresh, s.names + heard
commit(s)
return {OK, s.seq, s.log, join(verdicts, '')}
