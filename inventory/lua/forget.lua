-- forget.lua drops items and the holds of heads.
--
-- ARGV[5]  n, the number of heads
-- then for each head: head, the value that the caller has read, and of that value: units of its
-- fresh and doomed holds, digest of its ordered holds, and digest of its sold holds
-- then items
--
-- Reply: {OK, seq, length of log, left}: how many heads were not dropped, because they have another
-- value now.
--
-- Invariant: a head is dropped with all its holds, or not at all. Units are not changed: the item
-- is dropped with them. A sold-out item crosses, because an unknown item counts as in stock.
--
-- Cost: HMGET shard; HDEL shard, totals and restocks; RPUSH log; HSET shard.
-- O(heads and items).
local s, no = begin()
if no then
  return no
end
readBooks(s)
local first = 6 + 5 * tonumber(ARGV[5])
local holds = index(args(6, first - 1, 5))
local gone, left = {}, 0
for i = 6, first - 1, 5 do
  local head, value = ARGV[i], holds[ARGV[i]]
  if value and value == ARGV[i + 1] then
    holds[head] = false
    gone[#gone + 1] = head
    s.names = s.names - 1
    s.fresh = s.fresh - tonumber(ARGV[i + 2])
    s.ordered = (s.ordered - tonumber(ARGV[i + 3]) + MODULUS) % MODULUS
    s.sold = (s.sold - tonumber(ARGV[i + 4]) + MODULUS) % MODULUS
  elseif value then
    left = left + 1
  end
end
local items = {}
local u = shelves(args(first, #ARGV, 1))
for i = 1, #u.items do
  local item = u.items[i]
  local now = u.now[item]
  if now then
    items[#items + 1] = item
    s.items = s.items - 1
    if now <= 0 then
      cross(s, item, true)
    end
  end
end
call('HDEL', SHARD, gone)
call('HDEL', SHARD, items)
call('HDEL', TOTALS, items)
call('HDEL', RESTOCKS, items)
writeBooks(s)
commit(s)
return {OK, s.seq, s.log, left}
