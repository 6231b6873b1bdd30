-- report.lua stores a node's report, and reads all fresh reports.
--
-- KEYS[1]  hash: node -> microseconds of the server's clock, ' ', report
-- ARGV[1]  node; '' leaves none
-- ARGV[2]  report; '' takes the node's away
-- ARGV[3]  how long a report is told, in milliseconds
--
-- Reply: three for each report: node, age in milliseconds, report.
--
-- Invariant: no report that is older than that, or from the future, is kept or returned.
--
-- Cost: TIME, HSET or HDEL, HGETALL, PEXPIRE. O(nodes).
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
if ARGV[1] ~= '' then
  if ARGV[2] ~= '' then
    redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now) .. ARGV[2])
  else
    redis.call('HDEL', KEYS[1], ARGV[1])
  end
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', 60000 + tonumber(ARGV[3])))
end
local all = redis.call('HGETALL', KEYS[1])
local reply = {}
for i = 1, #all, 2 do
  local at, report = string.match(all[i + 1], '^(%d+) (.*)$')
  local age = at and (now - tonumber(at)) / 1000
  if age and age >= 0 and age <= tonumber(ARGV[3]) then
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = all[i], string.format('%.0f', age), report
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return reply
