-- Binds a ticket to a stream, unless it is bound already. Of used ones the oldest are let go beyond a number.
-- KEYS: ticket, tickets that are not used yet, used ones
-- ARGV: stream, milliseconds to keep it from now on, most of them, most of one tenant
-- The stream that it is bound to; nothing where there is no such ticket.
local sid = redis.call('HGET', KEYS[1], 'sid')
if not sid or sid ~= '' then
  return sid
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local of = ':' .. (redis.call('HGET', KEYS[1], 'of') or '')

local function keep(list, most)
  redis.call('ZREMRANGEBYSCORE', list, '-inf', now)
  redis.call('ZADD', list, now + ARGV[2], KEYS[1])
  redis.call('PEXPIRE', list, ARGV[2])
  local surplus = redis.call('ZCARD', list) - most
  if surplus > 0 then
    local oldest = redis.call('ZPOPMIN', list, surplus)
    for at = 1, #oldest, 2 do
      local theirs = ':' .. (redis.call('HGET', oldest[at], 'of') or '')
      redis.call('ZREM', KEYS[3], oldest[at])
      redis.call('ZREM', KEYS[3] .. theirs, oldest[at])
      redis.call('DEL', oldest[at])
    end
  end
end

redis.call('HSET', KEYS[1], 'sid', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[2], KEYS[1])
redis.call('ZREM', KEYS[2] .. of, KEYS[1])
-- The tenant's first: what is too much of one must not push out what is another's.
redis.call('ZADD', KEYS[3], now + ARGV[2], KEYS[1])
keep(KEYS[3] .. of, tonumber(ARGV[4]))
keep(KEYS[3], tonumber(ARGV[3]))
return ARGV[1]
