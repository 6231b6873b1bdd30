-- old.lua reads one stretch of the fresh and doomed holds that were last touched at or below a note.
--
-- ARGV[5]  note
-- ARGV[6]  which set: old or young
-- ARGV[7]  cursor, '0' to begin
-- ARGV[8]  about how many members to look at
--
-- Reply: {OK, seq, available, known, since, cursor, id, value, ...}: cursor '0' is the end of this set. Where since is below the
-- note, young may have some too.
--
-- Invariant: changes nothing. A member that stays from beginning to end of a scan is seen, perhaps twice.
--
-- Cost: SSCAN, HMGET holds. O(members looked at).
local s = read()
local no = refusal(s)
if no then
  return no
end
local note = tonumber(ARGV[5])
local page = redis.call('SSCAN', ARGV[6] == 'old' and OLD or YOUNG, ARGV[7], 'COUNT', ARGV[8])
local ids = page[2]
local values = hmget(HOLDS, ids)
local reply = {OK, s.seq, s.available, s.known, s.since, page[1]}
for i = 1, #ids do
  if values[i] then
    local _, _, touch = parse(values[i])
    if tonumber(touch) <= note then
      reply[#reply + 1] = ids[i]
      reply[#reply + 1] = values[i]
    end
  end
end
return reply
