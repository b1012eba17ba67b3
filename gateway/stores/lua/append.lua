-- Appends several entries at once: the last of them tells how much came from the source, and none is seen without it.
-- KEYS: log
-- ARGV: epoch, most entries, then of each entry: last, first, poured, events
-- The id of the last entry; nothing when the log is not there. An id that is not beyond the top is an error.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end
local id
for at = 3, #ARGV, 4 do
  id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], ARGV[1] .. '-' .. ARGV[at],
    'f', ARGV[at + 1], 'p', ARGV[at + 2], 'b', ARGV[at + 3])
end
return id
