-- Binds a ticket to a stream, unless it is bound already. Of used ones the oldest are let go beyond a number.
-- KEYS: ticket, tickets that are not used yet, used ones
-- ARGV: stream, milliseconds to keep it from now on, most of them
-- The stream that it is bound to; nothing where there is no such ticket.
local sid = redis.call('HGET', KEYS[1], 'sid')
if not sid or sid ~= '' then
  return sid
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'sid', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[2], KEYS[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
redis.call('ZADD', KEYS[3], now + ARGV[2], KEYS[1])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
local surplus = redis.call('ZCARD', KEYS[3]) - ARGV[3]
if surplus > 0 then
  local oldest = redis.call('ZPOPMIN', KEYS[3], surplus)
  for at = 1, #oldest, 2 do
    redis.call('DEL', oldest[at])
  end
end
return ARGV[1]
