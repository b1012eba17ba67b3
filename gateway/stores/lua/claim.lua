-- Takes a running stream over from a producer that is dead.
-- KEYS: log, meta
-- ARGV: expected producer, expected epoch, producer, its probe address, events that say so (JSON),
--       seconds to keep the log, seconds to keep the meta, most entries
-- {1, new epoch, last seq of the epoch before, producer, whether it was cancelled} when it was won, now or by a call
-- whose answer was lost; else {0, epoch, 0, producer, 0} as they are.
local held = redis.call('HMGET', KEYS[2], 'epoch', 'producer', 'state', 'ends', 'cancelled')
if not held[1] then
  return {0, 0, 0, '', 0}
end
local epoch, expected = tonumber(held[1]), tonumber(ARGV[2])
local ends = cjson.decode(held[4])
if epoch == expected + 1 and held[2] == ARGV[3] and ends[ARGV[2]] then
  return {1, epoch, ends[ARGV[2]], held[2], held[5] and 1 or 0}
end
local running = held[3] == 'open' or held[3] == 'live'
if epoch ~= expected or held[2] ~= ARGV[1] or not running or redis.call('EXISTS', KEYS[1]) == 0 then
  return {0, epoch, 0, held[2], 0}
end
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not top then
  return {0, epoch, 0, held[2], 0}
end
local last, poured = tonumber(string.match(top[1], '%-(%d+)$')), '0'
for at = 1, #top[2], 2 do
  if top[2][at] == 'p' then
    poured = top[2][at + 1]
  end
end
ends[ARGV[2]] = last
redis.call('HSET', KEYS[2], 'epoch', epoch + 1, 'producer', ARGV[3], 'at', ARGV[4], 'ends', cjson.encode(ends))
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[8], string.format('%d-%d', epoch + 1, last + 1),
  'f', string.format('%d', last + 1), 'p', poured, 'b', ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[6])
redis.call('EXPIRE', KEYS[2], ARGV[7])
return {1, epoch + 1, last, ARGV[3], held[5] and 1 or 0}
