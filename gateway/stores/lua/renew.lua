-- Prolongs the leases of slots by streams that run, whatever the count; writes them again where they are lost.
-- KEYS: slots
-- ARGV: milliseconds of a lease, then for each key: how many streams, and their names
local time = redis.call('TIME')
local lease = tonumber(ARGV[1])
local score = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + lease
local at = 2
for _, key in ipairs(KEYS) do
  local held, last = {}, at + tonumber(ARGV[at])
  for name = at + 1, last do
    held[#held + 1] = score
    held[#held + 1] = ARGV[name]
  end
  redis.call('ZADD', key, unpack(held))
  redis.call('PEXPIRE', key, lease + 60000)
  at = last + 1
end
return 1
