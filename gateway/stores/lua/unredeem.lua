-- Lets a ticket be used again whose stream did not come to be.
-- KEYS: ticket, tickets that are not used yet, used ones
-- ARGV: the stream that it is bound to, milliseconds until it is used
if redis.call('HGET', KEYS[1], 'sid') ~= ARGV[1] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local of = ':' .. (redis.call('HGET', KEYS[1], 'of') or '')
redis.call('HSET', KEYS[1], 'sid', '')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
for _, end_of_name in ipairs({'', of}) do
  redis.call('ZREM', KEYS[3] .. end_of_name, KEYS[1])
  redis.call('ZADD', KEYS[2] .. end_of_name, now + ARGV[2], KEYS[1])
  redis.call('PEXPIRE', KEYS[2] .. end_of_name, ARGV[2])
end
return 1
