-- note.lua begins a sweep.
--
-- Reply: {OK, seq, length of log}: every fresh hold is now touched at or below seq.
--
-- Invariant: changes nothing but seq.
--
-- Cost: HMGET and HSET shard, LLEN log. O(1).
local s, no = begin()
if no then
  return no
end
commit(s)
return {OK, s.seq, s.log}
