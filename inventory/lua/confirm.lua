-- confirm.lua marks holds whose orders exist.
--
-- ARGV[5]  the 8-byte hashes of all heads, joined
-- then for each hold: head, body, item, quantity, digest of the name
--
-- Reply: {OK, seq, length of log}
--
-- Invariant: a fresh or doomed hold becomes ordered; a hold that isn't there is put back as ordered
-- and takes its units, so that available may fall below 0 (then Redis has forgotten something, and
-- the database decides L1); an ordered or ended hold stays as it is. A hold of an item that the
-- shard doesn't know is passed over: the item was forgotten, or the audit will tell.
--
-- Cost: HMGET shard, three times; then as needed HSET shard, RPUSH log.
-- O(holds of the call).
local s, no = begin()
if no then
  return no
end
readBooks(s)
local holds = index(args(6, #ARGV, 5))
local u = shelves(args(8, #ARGV, 5))
local fields, names = {}, {}
local n = 0
for i = 6, #ARGV, 5 do
  local head, body, item, quantity, digest = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4])
  local value = holds[head]
  local where, state, held, _, _, buyer
  n = n + 1
  if value then
    where, state, held, _, _, buyer = entry(value, string.sub(body, 1, TAIL))
  end
  local new
  if where then
    if state == 'F' or state == 'D' then
      s.fresh = s.fresh - tonumber(held)
      new = become(value, where, 'O')
    end
  elseif u.now[item] then
    u.now[item] = u.now[item] - tonumber(quantity)
    buyer = bought(body)
    new = added(s, names, value, 'O', quantity, body, n)
  end
  if new then
    if buyer then
      s.ordered = (s.ordered + digest) % MODULUS
    end
    holds[head] = new
    fields[#fields + 1] = head
    fields[#fields + 1] = new
  end
end
call('HSET', SHARD, fields)
put(s, u)
s.named = join(names, '')
writeBooks(s)
commit(s)
return {OK, s.seq, s.log}
