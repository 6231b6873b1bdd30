-- doom.lua dooms holds: from now on a repeat of their name is answered with doomed.
--
-- ARGV[5]  note
-- then for each hold: head, tail
--
-- Reply: {OK, seq, length of log, states}: one letter per hold: its state afterwards, N if there is
-- no hold.
--
-- Invariant: only a fresh hold that was not touched since the note is doomed; its head stays in
-- young.
--
-- Cost: HMGET and HSET shard, twice. O(holds).
local s, no = begin()
if no then
  return no
end
local holds = index(args(6, #ARGV, 2))
local note = tonumber(ARGV[5])
local states, fields = {}, {}
for i = 6, #ARGV, 2 do
  local head = ARGV[i]
  local value = holds[head]
  local where, state, _, touch
  if value then
    where, state, _, touch = entry(value, ARGV[i + 1])
  end
  if where and state == 'F' and tonumber(touch) <= note then
    state = 'D'
    holds[head] = become(value, where, 'D')
    fields[#fields + 1] = head
    fields[#fields + 1] = holds[head]
  end
  states[#states + 1] = where and state or 'N'
end
call('HSET', SHARD, fields)
commit(s)
return {OK, s.seq, s.log, join(states, '')}
