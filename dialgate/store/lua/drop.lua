-- Uncount the attempts and forget the answers of the decisions of a log between two sequences, and note its position.
-- KEYS: positions, what this log wrote last. ARGV: log, position, lowest sequence, highest.
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[3], ARGV[4])) do
    local kind, rest = string.sub(member, 1, 1), string.sub(member, 2)
    if kind == 'q' then
        redis.call('DEL', rest)
    else
        local name, decision = string.match(rest, '^(.*) (%S+)$')
        local subject = redis.call('GET', name)
        if subject then
            redis.call('HDEL', subject, 'a' .. decision, 'r' .. decision)
            redis.call('HINCRBY', subject, 'v', 1)
            redis.call('DEL', name)
        end
    end
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], ARGV[3], ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
