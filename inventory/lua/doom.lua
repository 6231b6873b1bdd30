-- doom.lua dooms holds: from now on a repeat of their name is answered with doomed.
--
-- ARGV[5]  note
-- then ids from ARGV[6]
--
-- Reply: {OK, seq, available, known, states}: one character per id, the letter of its state afterwards, N where there is no hold.
--
-- Invariant: only a fresh hold that nobody touched since the note is doomed; it stays in its index set.
--
-- Cost: HMGET holds, HSET holds, HSET meta. O(ids).
local s, no = begin()
if no then
  return no
end
local ids = args(6, 1)
local holds = index(ids)
local note = tonumber(ARGV[5])
local states, put = {}, {}
for i = 1, #ids do
  local id = ids[i]
  if not holds[id] then
    states[i] = 'N'
  else
    local state, quantity, touch, buyer = parse(holds[id])
    if state == 'F' and tonumber(touch) <= note then
      state = 'D'
      holds[id] = 'D' .. quantity .. ' ' .. touch .. ' ' .. buyer
      put[#put + 1] = id
      put[#put + 1] = holds[id]
    end
    states[i] = state
  end
end
call('HSET', HOLDS, put)
commit(s)
local joined = {}
for i = 1, #states, CHUNK do
  joined[#joined + 1] = table.concat(states, '', i, math.min(i + CHUNK - 1, #states))
end
return {OK, s.seq, s.available, s.known, table.concat(joined)}
