-- levels.lua reads the shard's numbers, whatever its epoch, and a stretch of its log.
--
-- ARGV[5]  position in the log to read from, 0 is its beginning
-- ARGV[6]  how many entries to read at most; 0 reads none
--
-- Reply: {OK, seq, available, known, epoch, closed (0 or 1), held, sold, fresh, piece, ...}: the pieces joined are the entries, 8 bytes
-- each. A shard that isn't there answers zeros.
--
-- Invariant: changes nothing; numbers and entries are of one moment.
--
-- Cost: HMGET meta, LRANGE log. O(entries read), and O(position / entries per node) to get there.
local s = read()
local reply = {OK, s.seq, s.available, s.known, s.epoch, s.closed and 1 or 0, s.held, s.sold, s.fresh}
local from, count = tonumber(ARGV[5]), tonumber(ARGV[6])
if count > 0 and from < s.known then
  local entries = redis.call('LRANGE', LOG, from, from + count - 1)
  for i = 1, #entries, CHUNK do
    reply[#reply + 1] = table.concat(entries, '', i, math.min(i + CHUNK - 1, #entries))
  end
end
return reply
