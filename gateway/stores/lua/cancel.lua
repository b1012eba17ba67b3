-- Notes with a running stream that somebody cancelled it, in case its producer never hears of it.
-- KEYS: meta
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'cancelled', '1')
end
return 1
