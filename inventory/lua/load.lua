-- load.lua writes holds into a closed shard.
--
-- ARGV[5]  the 8-byte hashes of all ids, joined
-- then for each hold: id, buyer, quantity, state (O ordered, V void, S sold)
--
-- Reply: {OK, seq, available, known}
--
-- Invariant: refused with EPOCH unless the shard is closed under just this epoch. A name that is there stays as it is, so a load can be
-- repeated. Ordered and sold holds count against their buyers. The units are open.lua's to set.
--
-- Cost: HMGET holds, HMGET buyers, HSET holds, RPUSH log, HSET buyers, HSET meta. O(holds of the call).
local s = read()
if s.epoch ~= tonumber(ARGV[1]) or not s.closed then
  return {EPOCH, s.epoch}
end
local ids = args(6, 4)
local holds = index(ids)
local counts, changed = tally(args(7, 4)), {}
local put, names = {}, {}
for i = 1, #ids do
  local id = ids[i]
  if not holds[id] then
    local buyer, quantity, state = ARGV[4 * i + 3], ARGV[4 * i + 4], ARGV[4 * i + 5]
    if buyer ~= '' and state ~= 'V' then
      counts[buyer] = counts[buyer] + tonumber(quantity)
      changed[buyer] = true
    end
    s.known = s.known + 1
    holds[id] = state .. quantity .. ' 0 ' .. buyer
    put[#put + 1] = id
    put[#put + 1] = holds[id]
    names[#names + 1] = string.sub(ARGV[5], 8 * i - 7, 8 * i)
  end
end
call('HSET', HOLDS, put)
call('RPUSH', LOG, names)
writeTally(counts, changed)
redis.call('HSET', META, 'known', s.known)
return {OK, s.seq, s.available, s.known}
