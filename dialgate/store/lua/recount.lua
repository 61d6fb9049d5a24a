-- Attempts with their results. KEYS: of each what its log wrote last, its subject, its name. ARGV: life in ms; of each decision,
-- sequence, body, and its result (`INSTANT RESULT`) or nothing.
for n = 1, #KEYS / 3 do
    local last, subject, name = KEYS[3 * n - 2], KEYS[3 * n - 1], KEYS[3 * n]
    local decision, seq, body, result = ARGV[4 * n - 2], ARGV[4 * n - 1], ARGV[4 * n], ARGV[4 * n + 1]
    redis.call('HSET', subject, 'a' .. decision, body)
    if result ~= '' then redis.call('HSET', subject, 'r' .. decision, result) end
    redis.call('HINCRBY', subject, 'v', 1)
    redis.call('SET', name, subject, 'PX', ARGV[1])
    redis.call('ZADD', last, seq, 'a' .. name .. ' ' .. decision)
    if redis.call('HEXISTS', subject, 'n') == 0 then redis.call('PEXPIRE', subject, ARGV[1]) end
end
return 1
