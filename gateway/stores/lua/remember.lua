-- Adds a turn at the end of a conversation, unless one of the same stream is there.
-- KEYS: conversation
-- ARGV: stream, turn, most turns, most bytes, milliseconds to keep it
-- 1 when it was added, 0 when it was there. The newest turn is kept whatever its size.
local turns = redis.call('LRANGE', KEYS[1], 0, -1)
local size, length = #ARGV[2], #ARGV[1]
for _, turn in ipairs(turns) do
  if string.sub(turn, 1, length) == ARGV[1] then
    return 0
  end
  size = size + #turn
end
local count = redis.call('RPUSH', KEYS[1], ARGV[2])
for _, turn in ipairs(turns) do
  if count <= tonumber(ARGV[3]) and size <= tonumber(ARGV[4]) then
    break
  end
  redis.call('LPOP', KEYS[1])
  count, size = count - 1, size - #turn
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
