-- confirm.lua marks holds whose orders exist.
--
-- ARGV[5]  the 8-byte hashes of all ids, joined
-- then for each hold: id, buyer, quantity
--
-- Reply: {OK, seq, available, known}
--
-- Invariant: a fresh or doomed hold becomes ordered, and leaves young and old; a hold that isn't there is put back as ordered and takes
-- its units, so that available may fall below 0 (then Redis has forgotten something, and the database decides L1); an ordered
-- or ended hold stays as it is.
--
-- Cost: HMGET holds, HMGET buyers (when something is put back); then as needed HSET holds, SREM young, SREM old, RPUSH log, HSET
-- buyers; HSET meta. O(holds of the call).
local s, no = begin()
if no then
  return no
end
local ids = args(6, 3)
local holds = index(ids)
local counts, changed = nil, {}
local put, gone, names = {}, {}, {}
for i = 1, #ids do
  local id = ids[i]
  if not holds[id] then
    local buyer, quantity = ARGV[3 * i + 4], ARGV[3 * i + 5]
    local units = tonumber(quantity)
    s.available = s.available - units
    s.held = s.held + units
    s.known = s.known + 1
    if buyer ~= '' then
      counts = counts or tally(args(7, 3))
      counts[buyer] = counts[buyer] + units
      changed[buyer] = true
    end
    holds[id] = 'O' .. quantity .. ' ' .. s.now .. ' ' .. buyer
    put[#put + 1] = id
    put[#put + 1] = holds[id]
    names[#names + 1] = string.sub(ARGV[5], 8 * i - 7, 8 * i)
  else
    local state, quantity, touch, buyer = parse(holds[id])
    if state == 'F' or state == 'D' then
      s.fresh = s.fresh - tonumber(quantity)
      holds[id] = 'O' .. quantity .. ' ' .. touch .. ' ' .. buyer
      put[#put + 1] = id
      put[#put + 1] = holds[id]
      gone[#gone + 1] = id
    end
  end
end
call('HSET', HOLDS, put)
call('SREM', YOUNG, gone)
call('SREM', OLD, gone)
call('RPUSH', LOG, names)
writeTally(counts or {}, changed)
commit(s)
return {OK, s.seq, s.available, s.known}
