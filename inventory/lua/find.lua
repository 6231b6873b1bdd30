-- find.lua reads holds.
--
-- then ids from ARGV[5]
--
-- Reply: {OK, seq, available, known, value, ...}: the value in holds of each id, '' where there is none.
--
-- Invariant: changes nothing.
--
-- Cost: HMGET meta, HMGET holds. O(ids).
local s = read()
local no = refusal(s)
if no then
  return no
end
local values = hmget(HOLDS, args(5, 1))
local reply = {OK, s.seq, s.available, s.known}
for i = 1, #values do
  reply[4 + i] = values[i] or ''
end
return reply
