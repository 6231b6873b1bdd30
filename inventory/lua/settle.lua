-- settle.lua ends holds; a marker stays.
--
-- ARGV[5]  the 8-byte hashes of all ids, joined
-- then for each hold: id, buyer, quantity, kind (V void, S sold)
--
-- Reply: {OK, seq, available, known}
--
-- Invariant: void moves a hold's units from held back to available and takes them off its buyer's count; sold moves them from held to
-- sold, and a withdrawal's (buyer '') out of the total. What counts is what the hold says, not the call. A hold that isn't there
-- gives nothing back and leaves the marker (a sold one counts against its buyer, who has bought); a marker stays as it is.
--
-- Cost: HMGET holds, HMGET buyers (when a count changes); then as needed HSET holds, SREM young, SREM old, RPUSH log, HSET
-- and HDEL buyers; HSET meta; PUBLISH when the shard was empty. O(holds of the call).
local s, no = begin()
if no then
  return no
end
local ids = args(6, 4)
local holds = index(ids)
local put, gone, names, delta = {}, {}, {}, {} -- delta: buyer -> units

local function finish(id, kind)
  local state, quantity, touch, buyer = parse(holds[id])
  if state == 'V' or state == 'S' then
    return
  end
  local units = tonumber(quantity)
  if state ~= 'O' then
    s.fresh = s.fresh - units
    gone[#gone + 1] = id
  end
  s.held = s.held - units
  if kind == 'V' then
    s.available = s.available + units
    if buyer ~= '' then
      delta[buyer] = (delta[buyer] or 0) - units
    end
  elseif buyer ~= '' then
    s.sold = s.sold + units
  end
  holds[id] = kind .. quantity .. ' ' .. touch .. ' ' .. buyer
  put[#put + 1] = id
  put[#put + 1] = holds[id]
end

-- mark leaves a marker where no hold is.
local function mark(i, id, buyer, quantity, kind)
  s.known = s.known + 1
  if kind == 'S' and buyer ~= '' then
    delta[buyer] = (delta[buyer] or 0) + tonumber(quantity)
  end
  holds[id] = kind .. quantity .. ' ' .. s.now .. ' ' .. buyer
  put[#put + 1] = id
  put[#put + 1] = holds[id]
  names[#names + 1] = string.sub(ARGV[5], 8 * i - 7, 8 * i)
end

for i = 1, #ids do
  local id, kind = ids[i], ARGV[4 * i + 5]
  if holds[id] then
    finish(id, kind)
  else
    mark(i, id, ARGV[4 * i + 3], ARGV[4 * i + 4], kind)
  end
end
local buyers = {}
for buyer in pairs(delta) do
  buyers[#buyers + 1] = buyer
end
local counts = tally(buyers)
for buyer, units in pairs(delta) do
  counts[buyer] = counts[buyer] + units
end
call('HSET', HOLDS, put)
call('SREM', YOUNG, gone)
call('SREM', OLD, gone)
call('RPUSH', LOG, names)
writeTally(counts, delta)
commit(s)
return {OK, s.seq, s.available, s.known}
