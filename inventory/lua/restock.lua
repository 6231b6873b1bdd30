-- restock.lua adds units to items.
--
-- then for each restock from ARGV[5]: item, id, units, kind (P publish, R restock)
--
-- Reply: {OK, seq, length of log, applied}: for each a '1' if it is applied, now or before, and a
-- '0' if it is not.
--
-- Invariant: an id adds units once per item and epoch, even if it comes again. A publish makes an
-- unknown item; for a known item it counts as already applied. Its id is not kept. A restock of an
-- unknown item is not applied.
--
-- Cost: HMGET shard, totals and restocks; then as needed HSET of these, RPUSH log; PUBLISH
-- when an item had nothing. O(restocks of the call), and O(ids of an item).
local s, no = begin()
if no then
  return no
end
readBooks(s)
local u = shelves(args(5, #ARGV, 4))
local b, changed = ledger(u), {}
local joined, ids, kept, applied = hmget(RESTOCKS, u.items), {}, {}, {}
for i = 1, #u.items do
  ids[u.items[i]] = joined[i]
end

-- met reports whether an id is among the joined ids.
local function met(text, id)
  local at = 1
  while at <= #text do
    local size, behind = string.match(text, '^(%d+):()', at)
    size = tonumber(size)
    if string.sub(text, behind, behind + size - 1) == id then
      return true
    end
    at = behind + size
  end
  return false
end

for i = 5, #ARGV, 4 do
  local item, id, units, kind = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local known = u.now[item]
  local ok, add = '1', false
  if kind == 'P' then
    if not known then
      u.now[item], b[item], changed[item] = units, {units, 0}, true
      s.items = s.items + 1
    end
  elseif not known then
    ok = '0'
  else
    add = not met(ids[item] or '', id)
  end
  if add then
    u.now[item], b[item][1], changed[item] = known + units, b[item][1] + units, true
    ids[item] = (ids[item] or '') .. text(#id) .. ':' .. id
    kept[#kept + 1] = item
    kept[#kept + 1] = ids[item]
  end
  applied[#applied + 1] = ok
end
put(s, u)
writeLedger(u, b, changed)
call('HSET', RESTOCKS, kept)
writeBooks(s)
commit(s)
return {OK, s.seq, s.log, join(applied, '')}
