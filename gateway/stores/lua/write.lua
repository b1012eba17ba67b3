-- Writes a stream down whole: when it begins, when Redis has lost it, when it is folded to take less room.
-- KEYS: log, meta
-- ARGV: epoch, producer, last seq, seconds to keep the log, seconds to keep the meta, most entries,
--       how many meta fields, their names and values …, then of each entry: last, first, poured, events
-- "OK": it stands there. "SUPERSEDED": another process has the stream.
local epoch, producer, last = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local held = redis.call('HMGET', KEYS[2], 'epoch', 'producer')
if held[1] and (tonumber(held[1]) > epoch or (tonumber(held[1]) == epoch and held[2] ~= producer)) then
  return 'SUPERSEDED'
end
-- A call that was delayed on its way must not take back what came after it.
local top = redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if held[1] and tonumber(held[1]) == epoch and top then
  local top_epoch, top_seq = string.match(top[1], '^(%d+)-(%d+)$')
  if tonumber(top_epoch) == epoch and tonumber(top_seq) > last then
    return 'OK'
  end
end
redis.call('DEL', KEYS[1], KEYS[2])
local at = 8 + 2 * tonumber(ARGV[7])
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'producer', producer, unpack(ARGV, 8, at - 1))
while at < #ARGV do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[6], ARGV[1] .. '-' .. ARGV[at],
    'f', ARGV[at + 1], 'p', ARGV[at + 2], 'b', ARGV[at + 3])
  at = at + 4
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[5])
return 'OK'
