-- Frees a key, unless somebody else holds it by now.
-- KEYS: the key.  ARGV: the value that held it
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
