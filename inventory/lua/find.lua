-- find.lua reads holds.
--
-- then heads from ARGV[5]
--
-- Reply: {OK, seq, length of log, value, ...}: the value in holds of each head, '' if there is
-- none.
--
-- Invariant: changes nothing.
--
-- Cost: HMGET shard, twice; LLEN log. O(heads).
local s = read()
local no = refusal(s)
if no then
  return no
end
local values = hmget(SHARD, args(5, #ARGV, 1))
local reply = {OK, s.seq, redis.call('LLEN', LOG)}
for i = 1, #values do
  reply[3 + i] = values[i] or ''
end
return reply
