-- levels.lua reads the shard's numbers in any epoch, and a range of its log or some items.
--
-- ARGV[5]  position in the log to read from, 0 is its beginning
-- ARGV[6]  how many elements to read at most; 0 reads none
-- then items from ARGV[7]
--
-- Reply: {OK, seq, length of log, epoch, closed (0 or 1), fresh, names, items, ordered, sold, ...}:
-- then the elements of the log;
-- then for each item available, '' where the shard doesn't know it, and its totals. A shard that
-- isn't there answers zeros.
--
-- Invariant: changes nothing; all values are of one moment.
--
-- Cost: HMGET shard and totals, LLEN and LRANGE log. O(elements and items), and
-- O(position / elements per node), from the nearer end, to get there.
local s = read()
readBooks(s)
local reply = {
  OK, s.seq, redis.call('LLEN', LOG), s.epoch, s.closed and 1 or 0, s.fresh, s.names, s.items, s.ordered, s.sold,
}
local from, count = tonumber(ARGV[5]), tonumber(ARGV[6])
if count > 0 and from < reply[3] then
  local elements = redis.call('LRANGE', LOG, from, from + count - 1)
  for i = 1, #elements do
    reply[10 + i] = elements[i]
  end
end
local items = args(7, #ARGV, 1)
local units, totals = hmget(SHARD, items), hmget(TOTALS, items)
for i = 1, #items do
  reply[#reply + 1] = units[i] or ''
  reply[#reply + 1] = totals[i] or ''
end
return reply
