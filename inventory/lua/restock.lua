-- restock.lua adds units to what is available.
--
-- ARGV[5]  id of the restock
-- ARGV[6]  units, more than 0
--
-- Reply: {OK, seq, available, known}
--
-- Invariant: an id adds once per epoch, however often it comes.
--
-- Cost: HSETNX restocks, HSET meta; PUBLISH when the shard was empty. O(1).
local s, no = begin()
if no then
  return no
end
local units = tonumber(ARGV[6])
if redis.call('HSETNX', RESTOCKS, ARGV[5], units) == 1 then
  s.available = s.available + units
end
commit(s)
return {OK, s.seq, s.available, s.known}
