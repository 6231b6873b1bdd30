-- hold.lua takes units for many buyers, or says why it can't, on one shard or on several of one
-- server. Running a script costs as much as a dozen holds, so a round is one run if the server
-- allows it. (In a Cluster all keys of a script must be in one slot.)
--
-- KEYS has three keys of each shard, one shard after another. ARGV has the arguments of each shard
-- in the same way:
-- ARGV[5]  n, the number of claims
-- ARGV[6]  the number of items: 1 if all claims have the same item, else n
-- ARGV[7]  the 8-byte hashes of all heads, joined
-- ARGV[8]  the quantity of every claim, '' if they differ
-- ARGV[9]  the most units of a buyer (0 means no limit), '' if they differ
-- ARGV[10] the most holds of a buyer (0 means no limit), '' if they differ
-- then columns: items; heads; bodies; then, only where they differ: quantities; most units; most
-- holds
--
-- Reply: {OK, seq, length of log, verdicts} or a refusal of each shard, in a list. There is one
-- letter per claim, in the order of Go's Verdict:
--   A held, B again (fresh), C ordered, D ended, E doomed, F sold out, G over the limit,
--   H too many, I reused with another quantity, J the shard doesn't know the item
--
-- Invariant: available never falls below 0 here. The first of these decides: an existing hold of
-- this name, an unknown item, an item without units, the buyer's limits, the quantity. Refused
-- claims write nothing. A repeated hold is touched. Claims of one call are decided in their order
-- and see each other.
--
-- Cost: for each shard HMGET; then as needed HSET, RPUSH young and log. O(claims of the call), and
-- O(holds of a buyer who has some). In a flood Redis does little else, and a command in a script
-- costs as much as a claim. So everything that a call needs of a shard is read at once and written
-- at once. Columns go to HMGET unchanged, replies are read by position, and the loop calls no Lua
-- function for a buyer's first hold.
local n, last = 0, 0 -- element i of a column is ARGV[column + i]

-- column returns the common value of all claims, or where their column begins.
local function column(common)
  if ARGV[common] ~= '' then
    return ARGV[common], nil
  end
  last = last + n
  return nil, last
end

-- The values of the current claim: as text, and as numbers.
local quantity, units, start, mostText, most, ordersText, holdsAllowed

-- meet returns the verdict on a claim whose buyer has holds, and the new value, or nil if it stays
-- the same. Then it returns whether units are taken, and whether the head is added to young.
local function meet(s, value, body, available)
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

-- serve takes the holds on one shard, and returns its reply.
local function serve()
  n = tonumber(ARGV[base + 5])
  local different = tonumber(ARGV[base + 6])
  local items = base + 10
  local heads = items + different
  local bodies = heads + n
  local hashes = ARGV[base + 7]
  last = bodies
  local oneQuantity, quantities = column(base + 8)
  local oneMost, mosts = column(base + 9)
  local oneOrders, orders = column(base + 10)
  local found = lookup(items, bodies)
  local s, no = begin(found)
  if no then
    return no
  end
  quantity, mostText, ordersText = nil, nil, nil

  -- The changes of this call: item -> available; head -> value; and both in the form of HSET.
  local left, was, touched = {}, {}, {}
  local oneItem = different == 1 and ARGV[items + 1]
  local holds = 5 + different -- the value of head i is found[holds + i]
  local written, fields, m = {}, {'seq', s.now}, 2
  local young, y, sizes = {}, 0, {}
  local names, runFrom, runTo, heard, fresh = {}, 1, 0, 0, 0
  local verdicts = {}
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
      available = found[5 + (oneItem and 1 or i)]
      available = available and tonumber(available)
      left[item], was[item] = available, available
      touched[#touched + 1] = item
    end
    local value, new, taken, ripe = written[head] or found[holds + i], nil, false, false
    if value then
      verdicts[i], new, taken, ripe = meet(s, value, body, available)
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
      if runTo ~= i - 1 then -- hashes are copied in runs
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
  for i = 1, #touched do
    local item = touched[i]
    local now = left[item]
    if now ~= was[item] then
      fields[m + 1], fields[m + 2] = item, text(now)
      m = m + 2
      if now <= 0 then
        cross(s, item, false)
      end
    end
  end
  if fresh > 0 then
    fields[m + 1], fields[m + 2], m = 'fresh', text(s.fresh + fresh), m + 2
  end
  if heard > 0 then
    fields[m + 1], fields[m + 2], m = 'names', text(s.names + heard), m + 2
  end
  call('HSET', SHARD, fields)
  if y > 0 then
    redis.call('RPUSH', YOUNG, join(young, ''))
  end
  if heard == n then
    s.named = hashes
  elseif heard > 0 then
    names[#names + 1] = string.sub(hashes, 8 * runFrom - 7, 8 * runTo)
    s.named = join(names, '')
  end
  publish(s)
  return {OK, s.seq, s.log, join(verdicts, '')}
end

local replies = {}
for shard = 1, #KEYS / 3 do
  SHARD, YOUNG, LOG = KEYS[3 * shard - 2], KEYS[3 * shard - 1], KEYS[3 * shard]
  replies[shard] = serve()
  base = last + n
end
return replies
