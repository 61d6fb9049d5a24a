-- Entries of a ledger, with the sequences they have. KEYS: sequence, order, a subject for each. ARGV: of each its sequence, body.
for n = 1, #KEYS - 2 do
    local subject, seq = KEYS[2 + n], ARGV[2 * n - 1]
    if redis.call('HSETNX', subject, 'e' .. seq, ARGV[2 * n]) == 1 then
        redis.call('HINCRBY', subject, 'n', 1)
        redis.call('HINCRBY', subject, 'v', 1)
        redis.call('PERSIST', subject)
        redis.call('XADD', KEYS[2], seq .. '-0', 's', subject)
        redis.call('SET', KEYS[1], seq)
    end
end
return 1
