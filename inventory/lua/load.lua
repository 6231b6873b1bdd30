-- load.lua writes items and holds into a closed shard.
--
-- ARGV[5]  n, the number of items
-- ARGV[6]  the 8-byte hashes of all heads, joined
-- then for each item: item, available, total, sold
-- then for each hold: head, body, quantity, state (O ordered, V void, S sold), digest of the name
--
-- Reply: {OK, seq, length of log}
--
-- Invariant: refused with EPOCH unless the shard is closed under exactly this epoch. An existing
-- item or name stays as it is, so loads can be repeated and can run at the same time. Holds change
-- no units: the items already include them.
--
-- Cost: HMGET shard; HSET shard and totals; RPUSH log. O(items and holds of the
-- call).
local s = read()
if s.epoch ~= tonumber(ARGV[1]) or not s.closed then
  return {EPOCH, s.epoch}
end
s.now = text(s.seq)
readBooks(s)
local first = 7 + 4 * tonumber(ARGV[5])
local u = shelves(args(7, first - 1, 4))
local totals, fields, names = {}, {}, {}
for i = 7, first - 1, 4 do
  local item = ARGV[i]
  if not u.now[item] then
    u.now[item] = tonumber(ARGV[i + 1])
    s.items = s.items + 1
    totals[#totals + 1] = item
    totals[#totals + 1] = ARGV[i + 2] .. ' ' .. ARGV[i + 3]
  end
end
local holds = index(args(first, #ARGV, 5))
local n = 0
for i = first, #ARGV, 5 do
  local head, body, state = ARGV[i], ARGV[i + 1], ARGV[i + 3]
  local value = holds[head]
  local new = state .. ARGV[i + 2] .. ' 0;'
  n = n + 1
  if not value then
    new = new .. body
    s.names = s.names + 1
    names[#names + 1] = string.sub(ARGV[6], 8 * n - 7, 8 * n)
  elseif entry(value, string.sub(body, 1, TAIL)) then
    new = nil
  else
    new = new .. string.sub(body, 1, TAIL) .. value
  end
  if new then
    if bought(body) then
      local digest = tonumber(ARGV[i + 4])
      if state == 'O' then
        s.ordered = (s.ordered + digest) % MODULUS
      elseif state == 'S' then
        s.sold = (s.sold + digest) % MODULUS
      end
    end
    holds[head] = new
    fields[#fields + 1] = head
    fields[#fields + 1] = new
  end
end
call('HSET', SHARD, fields)
put(s, u)
call('HSET', TOTALS, totals)
s.named = join(names, '')
writeBooks(s)
redis.call('HSET', SHARD, 'names', text(s.names))
keep(s)
return {OK, s.seq, s.log}
