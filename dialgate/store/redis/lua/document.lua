-- Replace a field of a hash if it is unchanged. KEYS: the hash. ARGV: field, old value (empty: none), new value.
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
