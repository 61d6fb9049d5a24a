-- Record the result of an allowed call. Return 0 if no such attempt is counted.
-- KEYS: the index chunk with the name of the attempt's subject.
-- ARGV: the offset in the chunk, the prefix of a subject's key, the start of the attempt's line, the line of the result, and 1 if the
-- subject must not expire any more.
local subject = redis.call('GETRANGE', KEYS[1], ARGV[1], ARGV[1] + 15)
local key = ARGV[2] .. subject
if not string.find(redis.call('GET', key) or '', ARGV[3], 1, true) then return 0 end
redis.call('APPEND', key, ARGV[4])
if ARGV[5] == '1' then redis.call('PERSIST', key) end
return 1
