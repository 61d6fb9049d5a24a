-- Take entries out of the ledger and write others, in one step. KEYS: its sequence, its order, the subject of each that
-- goes, then of each that comes. ARGV: life in ms of a subject without entries, how many go, their sequences, a body for each
-- that comes.
local goes = tonumber(ARGV[2])
for n = 1, goes do
    local seq, subject = ARGV[2 + n], KEYS[2 + n]
    if redis.call('HDEL', subject, 'e' .. seq) == 1 then
        if redis.call('HINCRBY', subject, 'n', -1) < 1 then
            redis.call('HDEL', subject, 'n')
            redis.call('PEXPIRE', subject, ARGV[1])
        end
        redis.call('HINCRBY', subject, 'v', 1)
    end
    redis.call('XDEL', KEYS[2], seq .. '-0')
end
local comes = #ARGV - 2 - goes
local first = redis.call('INCRBY', KEYS[1], comes) - comes + 1
for n = 1, comes do
    local seq, subject = first + n - 1, KEYS[2 + goes + n]
    redis.call('HSET', subject, 'e' .. seq, ARGV[2 + goes + n])
    redis.call('HINCRBY', subject, 'n', 1)
    redis.call('HINCRBY', subject, 'v', 1)
    redis.call('PERSIST', subject)
    redis.call('XADD', KEYS[2], seq .. '-0', 's', subject)
end
return first
