-- Keeps a new ticket, unless too many wait to be used: of all, or of its tenant.
-- KEYS: ticket, tickets that are not used yet
-- ARGV: what it is for, milliseconds until it is used, most of them, most of one tenant, its tenant
-- 1 when it is kept, 0 when there are too many. Each tenant has a list of its own, named after that of all.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lists = {[KEYS[2]] = ARGV[3], [KEYS[2] .. ':' .. ARGV[5]] = ARGV[4]}
for list, most in pairs(lists) do
  redis.call('ZREMRANGEBYSCORE', list, '-inf', now)
  if redis.call('ZCARD', list) >= tonumber(most) and not redis.call('ZSCORE', list, KEYS[1]) then
    return 0
  end
end
for list in pairs(lists) do
  redis.call('ZADD', list, now + ARGV[2], KEYS[1])
  redis.call('PEXPIRE', list, ARGV[2])
end
redis.call('HSET', KEYS[1], 'for', ARGV[1], 'sid', '', 'of', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
