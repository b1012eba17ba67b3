-- Reserves a key that is free, or held by a value that turned out to stand for nothing.
-- KEYS: the key.  ARGV: value, milliseconds to keep it, the value that may be replaced (empty: none)
-- The value that holds the key, or nothing when it is reserved now.
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[3] then
  return held
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
