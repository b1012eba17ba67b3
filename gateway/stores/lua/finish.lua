-- Ends a stream: its last entries and its change of state are one. Does nothing new when it is called again.
-- KEYS: log, meta
-- ARGV: epoch, producer, state, request without its question, seconds to keep the log, seconds to keep the meta,
--       most entries, then of each entry: last, first, poured, events
-- "OK": it has ended there. "SUPERSEDED": another process has the stream. "MISSING": it must be written whole,
-- since Redis has lost it, or what came before these entries.
local epoch = tonumber(ARGV[1])
local held = redis.call('HMGET', KEYS[2], 'epoch', 'producer')
if held[1] and (tonumber(held[1]) ~= epoch or held[2] ~= ARGV[2]) then
  return 'SUPERSEDED'
end
if not held[1] or redis.call('EXISTS', KEYS[1]) == 0 then
  return 'MISSING'
end
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local seq = top and tonumber(string.match(top[1], '%-(%d+)$')) or 0
if tonumber(ARGV[9]) > seq + 1 then
  return 'MISSING'
end
for at = 8, #ARGV, 4 do
  if tonumber(ARGV[at]) > seq then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[7], ARGV[1] .. '-' .. ARGV[at],
      'f', ARGV[at + 1], 'p', ARGV[at + 2], 'b', ARGV[at + 3])
  end
end
redis.call('HSET', KEYS[2], 'state', ARGV[3], 'request', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('EXPIRE', KEYS[2], ARGV[6])
return 'OK'
