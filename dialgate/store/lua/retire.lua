-- Replace a call list's description, if it is still what was read. KEYS: the lists. ARGV: field, old, new.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
