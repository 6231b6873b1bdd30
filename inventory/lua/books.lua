-- books.lua is put between shard.lua and the scripts that change or read an item's books. It does
-- nothing by itself.
--
-- Reply: none, because it is not a script by itself.
--
-- Invariant: those of shard.lua.
--
-- Cost: few commands over many arguments; see the scripts.

-- readBooks adds the shard's rarely changed numbers.
local function readBooks(s)
  local m = redis.call('HMGET', SHARD, 'items', 'ordered', 'sold')
  s.items, s.ordered, s.sold = tonumber(m[1] or 0), tonumber(m[2] or 0), tonumber(m[3] or 0)
end

-- writeBooks writes them back.
local function writeBooks(s)
  redis.call('HSET', SHARD, 'items', text(s.items), 'ordered', text(s.ordered), 'sold', text(s.sold))
end

-- index returns head -> value in holds; false for a missing head.
local function index(heads)
  local values, out = hmget(SHARD, heads), {}
  for i = 1, #heads do
    out[heads[i]] = values[i]
  end
  return out
end

-- entry searches a value for the entry with this tail. It returns where the entry begins, its
-- state, quantity and touch, or nils. Then it returns the units and the number of fresh and doomed
-- entries, and whether the value has a buyer.
local function entry(value, tail)
  local at, where, state, quantity, touch, undecided = 1, nil, nil, nil, nil, 0
  while true do
    local letter, units, seq, behind = string.match(value, '^(%u)(%d+) (%d+);()', at)
    if not letter then
      break
    end
    if string.sub(value, behind, behind + TAIL - 1) == tail then
      where, state, quantity, touch = at, letter, units, seq
    end
    if letter == 'F' or letter == 'D' then
      undecided = undecided + 1
    end
    at = behind + TAIL
  end
  local buyer = string.match(value, '^=%d+ ()', at)
  return where, state, quantity, touch, undecided, buyer and buyer <= #value
end

-- become returns the value with another state for the entry that begins at where.
local function become(value, where, state)
  return string.sub(value, 1, where - 1) .. state .. string.sub(value, where + 1)
end

-- bought reports whether a body has a buyer.
local function bought(body)
  local buyer = string.match(body, '^=%d+ ()', TAIL + 1)
  return buyer and buyer <= #body
end

-- Shelves have the available units of some items: now, and before this call (nil if the shard
-- doesn't know the item); and the items in their order.
local function shelves(items)
  local u = {now = {}, was = {}, items = {}}
  local met = {}
  for i = 1, #items do
    if not met[items[i]] then
      met[items[i]] = true
      u.items[#u.items + 1] = items[i]
    end
  end
  local values = hmget(SHARD, u.items)
  for i = 1, #u.items do
    local n = values[i] and tonumber(values[i])
    u.now[u.items[i]], u.was[u.items[i]] = n or nil, n or nil
  end
  return u
end

-- put writes changed shelves back and records crossings. A new item counts as having units until a
-- crossing says that it has none.
local function put(s, u)
  local fields = {}
  for i = 1, #u.items do
    local item = u.items[i]
    local now, was = u.now[item], u.was[item]
    if now ~= was then
      fields[#fields + 1] = item
      fields[#fields + 1] = text(now)
      if (was == nil or was > 0) ~= (now > 0) then
        cross(s, item, now > 0)
      end
    end
  end
  call('HSET', SHARD, fields)
end

-- ledger returns item -> {total, sold} for the items of u.
local function ledger(u)
  local values, out = hmget(TOTALS, u.items), {}
  for i = 1, #u.items do
    if values[i] then
      local total, sold = string.match(values[i], '^(-?%d+) (-?%d+)$')
      out[u.items[i]] = {tonumber(total), tonumber(sold)}
    end
  end
  return out
end

-- writeLedger writes the items that are in changed (item -> true), in u's order.
local function writeLedger(u, b, changed)
  local fields = {}
  for i = 1, #u.items do
    local item = u.items[i]
    if changed[item] then
      fields[#fields + 1] = item
      fields[#fields + 1] = text(b[item][1]) .. ' ' .. text(b[item][2])
    end
  end
  call('HSET', TOTALS, fields)
end

-- added returns the value of a head with one more hold in front. If the head is new, its hash, the
-- n-th of ARGV[5], is added to names.
local function added(s, names, value, state, quantity, body, n)
  local new = state .. quantity .. ' ' .. s.now .. ';'
  if value then
    return new .. string.sub(body, 1, TAIL) .. value
  end
  s.names = s.names + 1
  names[#names + 1] = string.sub(ARGV[5], 8 * n - 7, 8 * n)
  return new .. body
end
