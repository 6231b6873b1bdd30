-- close.lua begins a rebuild: it empties the shard and marks it with the rebuild's epoch.
--
-- Reply: {OK, seq, length of log}
--
-- Invariant: refused with EPOCH if the shard has a later epoch, is open under this one, or has
-- loaded data under this one: a late repeat of a close must not delete what its own rebuild has
-- loaded. Afterwards seq is 0, and every call of another epoch is refused.
--
-- Cost: UNLINK, HSET shard. O(1) for the caller; Redis frees the memory in the background.
local s = read()
readBooks(s)
local epoch = tonumber(ARGV[1])
if s.epoch > epoch or s.epoch == epoch and (not s.closed or s.names > 0 or s.items > 0) then
  return {EPOCH, s.epoch}
end
redis.call('UNLINK', SHARD, YOUNG, LOG, TOTALS, RESTOCKS)
redis.call('HSET', SHARD, 'epoch', text(epoch), 'closed', 1, 'seq', 0, 'fresh', 0, 'names', 0, 'items', 0, 'ordered', 0, 'sold', 0)
return {OK, 0, 0}
