-- lease.lua returns tokens to buckets, and grants tokens.
--
-- A bucket is one moment, at which it will be full again (the TAT of the generic cell rate
-- algorithm), in microseconds of the server's clock. All numbers are integers below 2^53. A bucket
-- gains den tokens in num microseconds, so n tokens are n * num / den of them, rounded up.
--
-- In addition, a quota bounds the tokens that a bucket grants in a day of a time zone.
--
-- A caller that can't reach the server admits tokens without a grant. It owes them, and the bucket
-- is charged with them as soon as the server is told.
--
-- KEYS     the buckets. Each is a string of these, with spaces in between:
--            TAT.
--            Tokens that were granted since the key is known.
--            num, den and window.
--            Day (since 1970).
--            Tokens granted on that day and not given back.
--            All tokens granted on that day.
--            Two moments in between which the bucket was full and nobody came.
--            The last number that each caller was charged for: caller ':' number ',' ('-': none).
-- ARGV     nineteen for each key; times are in microseconds:
--             1  Tokens to give back.
--             2  Tokens that are wanted.
--             3  num, and den.
--             5  Window, from empty to full.
--             6  Floor: how far from full the bucket is, as the caller knows it.
--             7  What must stay in the bucket.
--             8  How many of the wanted tokens needn't leave it.
--             9  The quota (0: none).
--            10  How far its zone is ahead of UTC.
--            11  The day of the value as the caller knew it.
--            12  All tokens granted on it, and those not given back.
--            14  Tokens that the caller owes.
--            15  The time of the oldest of them.
--            16  How far from full they alone would have left the bucket.
--            17  How far below empty it may be charged.
--            18  The caller, and the number of what it owes.
--
-- Reply: six for each key:
--             1  Tokens granted.
--             2  The rest of the window after it, negative if the bucket is below empty.
--             3  Tokens granted since the key is known.
--             4  What is left of the quota.
--             5  The day, and all tokens granted on it.
--
-- Invariants:
--   In any time t a bucket grants at most its burst and what the rate gives in t. Charges are
--     subtracted from that.
--   Owed tokens are charged once, even if a caller reports them again: the charges of the last 16
--     callers of this minute are remembered.
--   Gains of the same time for which the bucket had no room, at most of a minute, pay for them
--     first. Of the rest, only young ones may leave the bucket below empty.
--   A clock that goes back makes no bucket emptier than empty, so it fills from there. A clock that
--     jumps ahead gives one full bucket.
--   A bucket that is full, or that the server forgot, is at most as full as the caller says.
--   When the terms change, the bucket keeps its tokens, as far as they fit.
--   In a day a bucket grants at most its quota, except tokens that come back after the end of the
--     day. A clock that goes back by a day or less stays on the later day.
--   The number of all tokens of a day only grows. If the server has fewer than a caller knew, it
--     has lost some, in a failover or a restart, and uses the caller's number.
--   A call without any change but the time writes nothing. A key lives some seconds longer than the
--     filling of its bucket and than its day, but nothing relies on that.
--
-- Cost: TIME, and GET and SET for each key. O(keys).
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local reply = {}
for i = 1, #KEYS do
  local at = (i - 1) * 19
  local back, want, num = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local den, window = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local quota, offset = tonumber(ARGV[at + 9]), tonumber(ARGV[at + 10])
  local today = floor((now + offset) / 86400000000)
  local owed, deep = tonumber(ARGV[at + 14]), tonumber(ARGV[at + 17])
  local tat, count, changed, day, used, all = 0, 0, false, today, 0, 0
  local from, to, charged = 0, 0, '-'
  local value = redis.call('GET', KEYS[i])
  if value then
    local a, b, c, d, e, f, g, h, j, k, l =
      string.match(value, '^(%d+) (-?%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) ([-%d:,]+)$')
    if a then
      tat, count = tonumber(a), tonumber(b)
      from, to, charged = tonumber(j), tonumber(k), l
      if tonumber(f) == today or tonumber(f) == today + 1 then
        day, used, all = tonumber(f), tonumber(g), tonumber(h)
      end
      local oldNum, oldDen, oldWindow = tonumber(c), tonumber(d), tonumber(e)
      if tat > now + oldWindow + (charged == '-' and 0 or deep) then
        tat, changed = now + oldWindow, true
      end
      if oldNum ~= num or oldDen ~= den or oldWindow ~= window then
        local tokens = floor((now + oldWindow - max(tat, now)) * oldDen / oldNum)
        tat = now + window - min(window, floor(tokens * num / den))
        changed = true
      end
    end
  end
  local full = tat <= now
  if full then
    local since = max(tat, now - 60000000)
    if now - since >= to - from or now - to > 5000000 then -- until then it may still pay for others
      from, to = since, now
    end
    tat = now
  end
  if owed > 0 then
    local caller, number = ARGV[at + 18], tonumber(ARGV[at + 19])
    local last, others, n = 0, '', 0
    for who, what in string.gmatch(charged, '(%d+):(%d+),') do
      if who == caller then
        last = tonumber(what)
      elseif n < 15 then
        others, n = others .. who .. ':' .. what .. ',', n + 1
      end
    end
    if number > last then
      local cost, span = ceil(owed * num / den), tonumber(ARGV[at + 15])
      local since = max(from, now - span)
      local paid = max(0, min(min(to, now) - since, cost - tonumber(ARGV[at + 16])))
      if paid > 0 then
        from = since + paid
      end
      cost = cost - paid
      tat = min(tat + cost, max(tat, now + window) + floor(cost * min(1, deep / (span + 1))), now + window + deep)
      charged = caller .. ':' .. ARGV[at + 19] .. ',' .. others
      count, used, all, changed = count + owed, used + owed, all + owed, true
    end
  end
  local least = now + min(tonumber(ARGV[at + 6]), window)
  if full and tat < least then
    from = max(0, from - (least - tat)) -- the caller allows for what others owe
    tat = least
  end
  tat = max(now, tat - floor(back * num / den))
  local room = now + window - tat
  local granted = max(0, min(want, floor((room - tonumber(ARGV[at + 7])) * den / num)))
  granted = max(granted, min(tonumber(ARGV[at + 8]), floor(room * den / num)))
  if tonumber(ARGV[at + 11]) == day and tonumber(ARGV[at + 12]) > all then
    all, used, changed = tonumber(ARGV[at + 12]), max(used, tonumber(ARGV[at + 13])), true
  end
  used = max(0, used - back)
  if quota > 0 then
    granted = min(granted, max(0, quota - used))
  end
  used, all = used + granted, all + granted
  if granted > 0 then
    tat = min(now + window, tat + ceil(granted * num / den))
  end
  count = count + granted - back
  if granted > 0 or back > 0 or changed then
    local text = string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %s',
      tat, count, num, den, window, day, used, all, from, to, charged)
    local life = tat - now
    if charged ~= '-' then
      life = max(life, 60000000)
    end
    if quota > 0 then
      life = max(life, (day + 1) * 86400000000 - offset - now)
    end
    redis.call('SET', KEYS[i], text, 'PX', string.format('%.0f', ceil(life / 1000) + 2000))
  end
  local n = (i - 1) * 6
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = granted, now + window - tat, count, max(0, quota - used)
  reply[n + 5], reply[n + 6] = day, all
end
return reply
