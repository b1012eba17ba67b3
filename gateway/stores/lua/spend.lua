-- Notes how many tokens an instance made in a day; may be repeated, for it tells all of them each time.
-- KEYS: budgets
-- ARGV: instance, seconds to keep them, then for each key: tokens of this instance
-- Of each key the tokens that others made.
local others = {}
for place, key in ipairs(KEYS) do
  local own = tonumber(ARGV[place + 2])
  local before = tonumber(redis.call('HGET', key, ARGV[1]) or 0)
  redis.call('HSET', key, ARGV[1], ARGV[place + 2])
  others[place] = redis.call('HINCRBY', key, 'sum', string.format('%.0f', own - before)) - own
  redis.call('EXPIRE', key, ARGV[2])
end
return others
