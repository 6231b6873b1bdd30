-- open.lua ends a rebuild: it sets the counts and opens the shard.
--
-- ARGV[5], ARGV[6], ARGV[7]  available, held, sold
-- ARGV[8]  known: how many names were loaded
--
-- Reply: {OK, seq, available, known}
--
-- Invariant: refused with EPOCH unless the shard carries just this epoch, and with LOST where a closed one has not as many names as
-- were loaded: a failover that kept the close forgot them. A shard that is open under it was opened by this call, sent twice, and
-- keeps its counts; the write of its epoch gives WAIT something to wait for.
--
-- Cost: HSET meta; PUBLISH when something is available. O(1).
local s = read()
if s.epoch ~= tonumber(ARGV[1]) then
  return {EPOCH, s.epoch}
end
if s.closed then
  if s.known ~= tonumber(ARGV[8]) then
    return {LOST, s.epoch}
  end
  s.seq, s.before = 1, 0
  s.available, s.held, s.sold = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
  redis.call('HSET', META, 'closed', 0)
  commit(s)
else
  redis.call('HSET', META, 'epoch', s.epoch)
end
return {OK, s.seq, s.available, s.known}
