-- Keeps a new ticket, unless too many wait to be used.
-- KEYS: ticket, tickets that are not used yet
-- ARGV: what it is for, milliseconds until it is used, most of them
-- 1 when it is kept, 0 when there are too many.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) and not redis.call('ZSCORE', KEYS[2], KEYS[1]) then
  return 0
end
redis.call('ZADD', KEYS[2], now + ARGV[2], KEYS[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[1], 'for', ARGV[1], 'sid', '')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
