-- Lets a ticket be used again whose stream did not come to be.
-- KEYS: ticket, tickets that are not used yet, used ones
-- ARGV: the stream that it is bound to, milliseconds until it is used
if redis.call('HGET', KEYS[1], 'sid') ~= ARGV[1] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'sid', '')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[3], KEYS[1])
redis.call('ZADD', KEYS[2], now + ARGV[2], KEYS[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
