-- open.lua ends a rebuild: it opens the shard.
--
-- ARGV[5]  how many items were loaded
-- ARGV[6]  how many heads
--
-- Reply: {OK, seq, length of log}
--
-- Invariant: refused with EPOCH unless the shard carries just this epoch, and with LOST where a
-- closed one has not just what was loaded: a failover that kept the close forgot it. A shard that
-- is open under it was opened by this call, sent twice; the write of its epoch gives WAIT something
-- to wait for. The message has no crossing: it tells that there is a new epoch.
--
-- Cost: HSET shard; PUBLISH. O(1).
local s = read()
readBooks(s)
if s.epoch ~= tonumber(ARGV[1]) then
  return {EPOCH, s.epoch}
end
if s.closed then
  if s.items ~= tonumber(ARGV[5]) or s.names ~= tonumber(ARGV[6]) then
    return {LOST, s.epoch}
  end
  s.seq = 1
  redis.call('HSET', SHARD, 'closed', 0, 'seq', 1)
  redis.pcall('PUBLISH', ARGV[3], ARGV[4] .. ' ' .. text(s.epoch) .. ' 1')
else
  redis.call('HSET', SHARD, 'epoch', text(s.epoch))
end
return {OK, s.seq, redis.call('LLEN', LOG)}
