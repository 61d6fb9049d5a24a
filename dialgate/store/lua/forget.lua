-- Forget attempts of a subject. KEYS: the subject, and each attempt's name. ARGV: their decisions.
for n = 1, #ARGV do
    redis.call('HDEL', KEYS[1], 'a' .. ARGV[n], 'r' .. ARGV[n])
    redis.call('DEL', KEYS[1 + n])
end
redis.call('HINCRBY', KEYS[1], 'v', 1)
return 1
