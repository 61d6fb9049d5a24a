-- Take entries out of the ledger, and write others to it. KEYS: its sequence, its order, and a subject for each new entry.
-- ARGV: life in ms of a subject without entries, how many go, of each its sequence; then a body for each new entry.
local gone = tonumber(ARGV[2])
for n = 1, gone do
    local seq = ARGV[2 + n]
    local found = redis.call('XRANGE', KEYS[2], seq .. '-0', seq .. '-0')[1]
    if found then
        local subject = found[2][2]
        redis.call('HDEL', subject, 'e' .. seq)
        redis.call('HINCRBY', subject, 'v', 1)
        if redis.call('HINCRBY', subject, 'n', -1) == 0 then
            redis.call('HDEL', subject, 'n')
            redis.call('PEXPIRE', subject, ARGV[1])
        end
        redis.call('XDEL', KEYS[2], seq .. '-0')
    end
end
local added = #ARGV - 2 - gone
local first = redis.call('INCRBY', KEYS[1], added) - added + 1
for n = 1, added do
    local seq, subject = first + n - 1, KEYS[2 + n]
    redis.call('HSET', subject, 'e' .. seq, ARGV[2 + gone + n])
    redis.call('HINCRBY', subject, 'n', 1)
    redis.call('HINCRBY', subject, 'v', 1)
    redis.call('PERSIST', subject)
    redis.call('XADD', KEYS[2], seq .. '-0', 's', subject)
end
return first
