package stocktest

// PlainHold is the simple Lua script for this task. Benchmarks compare the cost of the shards' own
// scripts with it. It takes units, and keeps the buyer's limit and the purchase's name. KEYS are
// stock, buyers and names; ARGV are name, buyer, quantity and limit. It answers 1 if the units were
// taken, 2 if this name took them before, 0 if there are not enough, -1 over the limit.
const PlainHold = `
if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then return 2 end
local quantity = tonumber(ARGV[3])
if tonumber(redis.call('GET', KEYS[1]) or '0') < quantity then return 0 end
if redis.call('HINCRBY', KEYS[2], ARGV[2], quantity) > tonumber(ARGV[4]) then
  redis.call('HINCRBY', KEYS[2], ARGV[2], -quantity)
  return -1
end
redis.call('DECRBY', KEYS[1], quantity)
redis.call('HSET', KEYS[3], ARGV[1], quantity)
return 1`
