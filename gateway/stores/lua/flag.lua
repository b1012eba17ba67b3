-- Changes a flag that nobody else has changed meanwhile, and writes down who did it.
-- KEYS: flags, audit trail
-- ARGV: name, the version that is changed (0: the one of the configuration), the flag (JSON), the entry (JSON),
--       most entries
-- "OK"; where it was changed meanwhile, the flag as it is now (JSON), empty where Redis has none.
local held = redis.call('HGET', KEYS[1], ARGV[1])
local version = held and cjson.decode(held)['version'] or 0
if version ~= tonumber(ARGV[2]) then
  return held or ''
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', 'flag', ARGV[1], 'entry', ARGV[4])
return 'OK'
