-- old.lua takes a range of young, from its left, and returns the heads in it with a fresh or doomed
-- hold that was last touched at or below a note.
--
-- ARGV[5]  note
-- ARGV[6]  how many elements of young are left of this pass; 0 begins one, and takes all that are
-- there
-- ARGV[7]  about how many heads to answer
--
-- Reply: {OK, seq, length of log, elements left, head, value, ...}
--
-- Invariant: heads that still have a fresh or doomed hold go back, to the right, in one element;
-- other heads leave young. So a head that can't be decided doesn't hide others, every pass ends,
-- and young has only heads with undecided holds.
--
-- Cost: HMGET shard; LPOP young and HMGET shard for each element; RPUSH young; HSET shard. O(heads
-- looked at): the elements up to CHUNK heads, but at least one element.
local s, no = begin()
if no then
  return no
end
local note, left, limit = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
if left == 0 then
  left = redis.call('LLEN', YOUNG)
end
local reply, found, looked = {OK, s.seq, 0, 0}, 0, 0
local back, met = {}, {}

-- cut returns the heads of an element, without those that were seen before.
local function cut(element)
  local heads, at = {}, 1
  while at <= #element do
    local size = string.byte(element, at)
    local head = string.sub(element, at + 1, at + size)
    if not met[head] then
      met[head] = true
      heads[#heads + 1] = head
    end
    at = at + 1 + size
  end
  return heads
end

-- look returns whether a value has a fresh or doomed hold, and whether one of these is old.
local function look(value)
  local at, undecided = 1, false
  while true do
    local state, touch, behind = string.match(value, '^(%u)%d+ (%d+);()', at)
    if not state then
      return undecided, false
    end
    if state == 'F' or state == 'D' then
      undecided = true
      if tonumber(touch) <= note then
        return true, true
      end
    end
    at = behind + TAIL
  end
end

while left > 0 and found < limit and looked < CHUNK do
  local element = redis.call('LPOP', YOUNG)
  if not element then
    left = 0
    break
  end
  left = left - 1
  local heads = cut(element)
  local values = hmget(SHARD, heads)
  looked = looked + #heads
  for i = 1, #heads do
    if values[i] then
      local undecided, old = look(values[i])
      if undecided then
        back[#back + 1] = string.char(#heads[i])
        back[#back + 1] = heads[i]
      end
      if old then
        found = found + 1
        reply[#reply + 1] = heads[i]
        reply[#reply + 1] = values[i]
      end
    end
  end
end
if #back > 0 then
  redis.call('RPUSH', YOUNG, join(back, ''))
end
commit(s)
reply[3], reply[4] = s.log, left
return reply
