-- What became of an allowed call; of two results the later stands. KEYS: the attempt's name.
-- ARGV: decision, instant, result. Gives 0 where no such attempt is counted.
local subject = redis.call('GET', KEYS[1])
if not subject or redis.call('HEXISTS', subject, 'a' .. ARGV[1]) == 0 then return 0 end
local before = redis.call('HGET', subject, 'r' .. ARGV[1])
if not before or tonumber(string.match(before, '^%d+')) <= tonumber(ARGV[2]) then
    redis.call('HSET', subject, 'r' .. ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
    redis.call('HINCRBY', subject, 'v', 1)
end
return 1
