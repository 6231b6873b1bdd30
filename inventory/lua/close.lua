-- close.lua begins a rebuild: it empties the shard and marks it with the rebuild's epoch.
--
-- Reply: {OK, seq, length of log}
--
-- Invariant: refused with EPOCH where a later epoch stands, or this one is open, or something was
-- loaded under this one: a late repeat of a close must not take away what its own rebuild has
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
