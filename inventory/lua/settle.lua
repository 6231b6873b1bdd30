-- settle.lua ends holds; a marker stays.
--
-- ARGV[5]  the 8-byte hashes of all heads, joined
-- then for each hold: head, body, item, quantity, digest of the name, kind (V void, S sold)
--
-- Reply: {OK, seq, length of log}
--
-- Invariant: void gives a hold's units back to available; sold keeps them: as sold, or, for a
-- withdrawal (no buyer), by making the total smaller. The values of the hold count, not those of
-- the call. A missing hold gives nothing back and leaves the marker; if it is sold, its units are
-- taken, because the order exists. A marker stays as it is. A hold of an unknown item leaves
-- nothing.
--
-- Cost: HMGET shard and totals; then as needed HSET of these, RPUSH log; PUBLISH when an
-- item had nothing. O(holds of the call).
local s, no = begin()
if no then
  return no
end
readBooks(s)
local holds = index(args(6, #ARGV, 6))
local u = shelves(args(8, #ARGV, 6))
local b, changed = ledger(u), {}
local fields, names = {}, {}

-- move applies the end of a hold to the units and digests. taken means that its units are not
-- available now.
local function move(item, units, kind, buyer, taken)
  if not u.now[item] then
    return
  end
  if kind == 'V' then
    if taken then
      u.now[item] = u.now[item] + units
    end
    return
  end
  if not taken then
    u.now[item] = u.now[item] - units
  end
  changed[item] = true
  if buyer then
    b[item][2] = b[item][2] + units
  else
    b[item][1] = b[item][1] - units
  end
end

local n = 0
for i = 6, #ARGV, 6 do
  local head, body, item, quantity = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local digest, kind = tonumber(ARGV[i + 4]), ARGV[i + 5]
  local value = holds[head]
  local where, state, held, _, _, buyer
  n = n + 1
  if value then
    where, state, held, _, _, buyer = entry(value, string.sub(body, 1, TAIL))
  end
  local new
  if where then
    if state ~= 'V' and state ~= 'S' then
      new = become(value, where, kind)
      if state ~= 'O' then
        s.fresh = s.fresh - tonumber(held)
      elseif buyer then
        s.ordered = (s.ordered - digest + MODULUS) % MODULUS
      end
      move(item, tonumber(held), kind, buyer, true)
    end
  elseif u.now[item] then
    buyer = bought(body)
    new = added(s, names, value, kind, quantity, body, n)
    move(item, tonumber(quantity), kind, buyer, false)
  end
  if new then
    if kind == 'S' and buyer then
      s.sold = (s.sold + digest) % MODULUS
    end
    holds[head] = new
    fields[#fields + 1] = head
    fields[#fields + 1] = new
  end
end
call('HSET', SHARD, fields)
put(s, u)
writeLedger(u, b, changed)
s.named = join(names, '')
writeBooks(s)
commit(s)
return {OK, s.seq, s.log}
