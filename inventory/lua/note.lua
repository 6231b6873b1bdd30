-- note.lua begins a sweep.
--
-- Reply: {OK, seq, available, known}: every fresh hold is now touched at or below seq.
--
-- Invariant: young and old keep their members between them. Where old is small, all of them are in old afterwards, and since = seq; a
-- large old (a sweep that has much left) stays as it is, and old.lua looks through young too.
--
-- Cost: SCARD old, EXISTS young; then as needed SMEMBERS old, SADD young, RENAME; HSET meta. O(CHUNK), however large the sets are:
-- a union of both would stop the shard for as long as it takes to copy all fresh holds.
local s, no = begin()
if no then
  return no
end
local kept = redis.call('SCARD', OLD)
if kept <= CHUNK then
  if redis.call('EXISTS', YOUNG) == 1 then
    if kept > 0 then
      call('SADD', YOUNG, redis.call('SMEMBERS', OLD))
    end
    redis.call('RENAME', YOUNG, OLD)
  end
  s.since = s.seq
end
commit(s)
return {OK, s.seq, s.available, s.known}
