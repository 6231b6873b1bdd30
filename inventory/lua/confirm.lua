-- confirm.lua marks holds whose orders exist.
--
-- ARGV[5]  the 8-byte hashes of all heads, joined
-- ARGV[6]  n, the number of holds
-- ARGV[7]  the sum of the digests of all names that have a buyer
-- ARGV[8]  the item of every hold, '' if they differ
-- ARGV[9]  the quantity of every hold, '' if they differ
-- ARGV[10] the digests of all names, 12 hexadecimal digits each, joined
-- ARGV[11] runs of holds that were taken by one write with the same quantity, as the number of
--   holds and the write's seq (0 if it isn't known), with a ' ' behind each
-- then columns: heads; bodies; then, only where they differ: items; quantities
--
-- Reply: {OK, seq, length of log}
--
-- Invariants:
--   A fresh or doomed hold becomes ordered. An ordered or ended hold stays as it is.
--   A hold that isn't there is put back as ordered and takes its units, so available may fall below
--     0. Then Redis has forgotten something, and the database decides L1.
--   A hold of an unknown item is skipped: the item was forgotten, or the audit will report it.
--
-- Cost: HMGET shard, twice; then as needed HSET shard, RPUSH log; one more HMGET if a hold isn't
-- the buyer's only one, is no longer fresh, or was touched after the seq that the caller knows.
-- O(holds of the call). As in hold.lua, the loop calls no function for the most frequent case.
local n = tonumber(ARGV[6])
local heads, bodies = 11, 11 + n
local found = lookup(heads, bodies)
local s, no = begin(found)
if no then
  return no
end
readBooks(s)
local items, quantities = bodies + n, bodies + n
if ARGV[8] == '' then
  quantities = items + n
end
local u -- the shelves, once a hold needs them
local fields, m = {}, 0
local written, names = {}, {}

-- asked returns the item and the quantity of a hold.
local function asked(i)
  local item, quantity = ARGV[8], ARGV[9]
  return item ~= '' and item or ARGV[items + i], quantity ~= '' and quantity or ARGV[quantities + i]
end

-- confirm returns the new value of a head, nil if it stays the same, and whether the hold has
-- become ordered now and has a buyer.
local function confirm(i, value, body)
  u = u or shelves(ARGV[8] ~= '' and {ARGV[8]} or args(items + 1, items + n, 1))
  local where, state, held, _, _, buyer
  if value then
    where, state, held, _, _, buyer = entry(value, string.sub(body, 1, TAIL))
  end
  local item, quantity = asked(i)
  if where then
    if state ~= 'F' and state ~= 'D' then
      return nil, false
    end
    s.fresh = s.fresh - tonumber(held)
    return become(value, where, 'O'), buyer
  elseif not u.now[item] then
    return nil, false
  end
  u.now[item] = u.now[item] - tonumber(quantity)
  return added(s, names, value, 'O', quantity, body, i), bought(body)
end

-- Most holds are fresh, the buyer's only one, and were not touched again. So their values are
-- known, and a comparison of such texts is one of addresses. All holds are counted first, and the
-- exceptions are subtracted again.
s.ordered = s.ordered + tonumber(ARGV[7])
local last = 0
for count, seq in string.gmatch(ARGV[11], '(%d+) (%d+) ') do
  local _, quantity = asked(last + 1)
  local behind = quantity .. ' ' .. seq .. ';'
  local units, start, ordered = tonumber(quantity), 'F' .. behind, 'O' .. behind
  for i = last + 1, last + tonumber(count) do
    local head, body = ARGV[heads + i], ARGV[bodies + i]
    local value = written[head] or found[5 + i]
    local new
    if value == start .. body then
      s.fresh = s.fresh - units
      new = ordered .. body
    else
      local counts
      new, counts = confirm(i, value, body)
      local counted = bought(body)
      if (counts or false) ~= (counted or false) then
        local digest = tonumber(string.sub(ARGV[10], 12 * i - 11, 12 * i), 16)
        s.ordered = (s.ordered + (counts and digest or -digest)) % MODULUS
      end
    end
    if new then
      written[head] = new
      fields[m + 1], fields[m + 2] = head, new
      m = m + 2
    end
  end
  last = last + tonumber(count)
end
s.ordered = s.ordered % MODULUS
call('HSET', SHARD, fields)
if u then
  put(s, u)
end
s.named = join(names, '')
writeBooks(s)
commit(s)
return {OK, s.seq, s.log}
