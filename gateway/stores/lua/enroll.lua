-- Notes a name as the newest of a list, and takes out those that are surplus or too old.
-- KEYS: list
-- ARGV: name, now, the oldest time that is kept, most names (times in seconds)
-- The names that were taken out as surplus: what they name is to be forgotten.
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[3])
local surplus = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[4])
local names = {}
if surplus > 0 then
  local popped = redis.call('ZPOPMIN', KEYS[1], math.min(surplus, 1000))
  for at = 1, #popped, 2 do
    names[#names + 1] = popped[at]
  end
end
return names
