-- close.lua begins a rebuild: it empties the shard and marks it with the rebuild's epoch.
--
-- ARGV[5]  the installation that closes it, '' if that is not checked
--
-- Reply: {OK, seq, length of log}
--
-- Invariant: refused with EPOCH if the shard has a later epoch, or is open under this one, or
-- something was loaded under this one. So a late repeat of a close can't delete what its own
-- rebuild has loaded. Refused with FOREIGN if another installation has the shard. Afterwards seq is
-- 0, and every call of another epoch is refused.
--
-- Cost: HGET shard, UNLINK, HSET shard twice. O(1) for the caller; Redis frees the memory in the
-- background.
local s = read()
readBooks(s)
local epoch, owner = tonumber(ARGV[1]), ARGV[5]
local has = redis.call('HGET', SHARD, 'owner') or ''
if owner ~= '' and has ~= '' and has ~= owner then
  return {FOREIGN, s.epoch}
end
if s.epoch > epoch or s.epoch == epoch and (not s.closed or s.names > 0 or s.items > 0) then
  return {EPOCH, s.epoch}
end
redis.call('UNLINK', SHARD, YOUNG, LOG, TOTALS, RESTOCKS)
redis.call('HSET', SHARD, 'epoch', text(epoch), 'closed', 1, 'seq', 0, 'fresh', 0, 'names', 0, 'items', 0, 'ordered', 0, 'sold', 0)
if owner ~= '' then
  redis.call('HSET', SHARD, 'owner', owner)
end
return {OK, 0, 0}
