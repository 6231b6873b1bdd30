-- open.lua ends a rebuild: it opens the shard.
--
-- ARGV[5]  how many items were loaded
-- ARGV[6]  how many heads
--
-- Reply: {OK, seq, length of log}
--
-- Invariant: refused with EPOCH unless the shard has exactly this epoch, and with LOST if a closed
-- shard does not have exactly the loaded data: a failover kept the close and forgot some data. If
-- the shard is open under this epoch, this call was sent twice; the write of its epoch gives WAIT
-- something to wait for. The message has no crossing: it announces a new epoch.
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
