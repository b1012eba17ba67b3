-- Notes a name as the newest of a list and of its tenant's, and takes out those that are surplus or too old.
-- KEYS: list, list of the tenant's own
-- ARGV: name, now, the oldest time that is kept, most names, most of one tenant (times in seconds)
-- The names that were taken out as surplus: what they name is to be forgotten.
local names = {}

local function note(list, most)
  redis.call('ZADD', list, ARGV[2], ARGV[1])
  redis.call('ZREMRANGEBYSCORE', list, '-inf', ARGV[3])
  local surplus = redis.call('ZCARD', list) - tonumber(most)
  if surplus > 0 then
    local popped = redis.call('ZPOPMIN', list, math.min(surplus, 1000))
    for at = 1, #popped, 2 do
      names[#names + 1] = popped[at]
      redis.call('ZREM', KEYS[1], popped[at])
    end
  end
end

-- The tenant's first: what is too much of one must not push out what is another's.
note(KEYS[2], ARGV[5])
redis.call('EXPIRE', KEYS[2], math.ceil(ARGV[2] - ARGV[3]))
note(KEYS[1], ARGV[4])
return names
