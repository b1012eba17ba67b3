-- Counts a new stream against all that it is measured by, or refuses it and counts nothing.
-- KEYS: windows, slots, budgets
-- ARGV: stream, milliseconds of a lease, whether it may wait, whether it takes slots that streams wait for (0 or 1),
--       how many windows, how many slots, then of each window: limit, microseconds; of each slots: limit, whether
--       streams wait for it; of each budget: limit
-- {place among KEYS of what refused it or 0, microseconds until it would not, whether it has all its slots,
--  place of the window nearest to its limit or 0, requests left in it, microsecond at which all of it is free}
local HAIR, SLOT_RETRY, DAY = 1e-6, 2000000, 86400000000
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local sid, lease, may_wait, take = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4] == '1'
local windows, slots = tonumber(ARGV[5]), tonumber(ARGV[6])
local at, refused, wait = 7, 0, 0
local uses, full = {}, false

local function refuse(place, microseconds)
  if microseconds > wait then
    refused, wait = place, microseconds
  end
end

for place = 1, windows do
  local limit, size = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local elapsed = math.fmod(now, size)
  local span, count, before = (now - elapsed) / size, 0, 0
  local held = redis.call('GET', KEYS[place])
  if held then
    local then_span, then_count, then_before = string.match(held, '^(%d+) (%d+) (%d+)$')
    then_span = tonumber(then_span)
    if then_span == span then
      count, before = tonumber(then_count), tonumber(then_before)
    elseif then_span == span - 1 then
      before = tonumber(then_count)
    elseif then_span == span + 1 then
      -- The clock was set back a little: what was counted has happened all the same.
      span, elapsed, count, before = then_span, 0, tonumber(then_count), tonumber(then_before)
    end
  end
  local used, room = before * (1 - elapsed / size) + count, limit - 1
  if used > room + HAIR then
    if count <= room then
      refuse(place, math.ceil(size * (1 - (room - count) / before) - elapsed))
    else
      refuse(place, math.ceil(size * (2 - room / count) - elapsed))
    end
  end
  uses[place] = {limit, size, span, count, before, used}
  at = at + 2
end

for place = windows + 1, windows + slots do
  local limit, waits = tonumber(ARGV[at]), ARGV[at + 1] == '1'
  redis.call('ZREMRANGEBYSCORE', KEYS[place], '-inf', math.floor(now / 1000))
  if redis.call('ZCARD', KEYS[place]) >= limit and not redis.call('ZSCORE', KEYS[place], sid) then
    full = true
    if not (waits and may_wait) then
      refuse(place, SLOT_RETRY)
    end
  end
  at = at + 2
end

for place = windows + slots + 1, #KEYS do
  if tonumber(redis.call('HGET', KEYS[place], 'sum') or 0) >= tonumber(ARGV[at]) then
    refuse(place, DAY - math.fmod(now, DAY))
  end
  at = at + 1
end

local nearest, room, left, reset, taken = 0, 0, 0, 0, refused == 0 and 1 or 0
for place, use in ipairs(uses) do
  local limit, size, span, count, before, used = unpack(use)
  if refused == place or (refused == 0 or refused > windows) and (nearest == 0 or limit - used < room) then
    local spans = count + taken > 0 and 2 or 1
    nearest, room, reset = place, limit - used, (span + spans) * size
    left = math.max(0, math.floor(room - taken + HAIR))
  end
  if taken == 1 then
    local kept = math.ceil(((span + 2) * size - now) / 1000)
    redis.call('SET', KEYS[place], string.format('%.0f %.0f %.0f', span, count + 1, before), 'PX', kept)
  end
end
if refused > 0 then
  return {refused, wait, 0, nearest, left, reset}
end

local has = take and not full
at = 7 + 2 * windows
for place = windows + 1, windows + slots do
  if has or ARGV[at + 1] == '0' then
    redis.call('ZADD', KEYS[place], math.floor(now / 1000) + lease, sid)
    -- Longer than any lease, so that one process with a shorter one does not end those of others.
    redis.call('PEXPIRE', KEYS[place], lease + 60000)
  end
  at = at + 2
end
return {0, 0, has and 1 or 0, nearest, left, reset}
