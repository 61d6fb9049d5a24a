-- Write to the ledger. KEYS: its sequence, its order, and a subject for each entry. ARGV: a body for each entry.
local first = redis.call('INCRBY', KEYS[1], #ARGV) - #ARGV + 1
for n = 1, #ARGV do
    local seq, subject = first + n - 1, KEYS[2 + n]
    redis.call('HSET', subject, 'e' .. seq, ARGV[n])
    redis.call('HINCRBY', subject, 'n', 1)
    redis.call('HINCRBY', subject, 'v', 1)
    redis.call('PERSIST', subject)
    redis.call('XADD', KEYS[2], seq .. '-0', 's', subject)
end
return first
