-- What became of an allowed call. KEYS: the piece that its name lies in. ARGV: at which byte, what a subject's key begins with, how
-- its attempt's line begins, the line, and 1 if the subject may not expire from now on. Gives 0 where no such attempt is counted.
local subject = redis.call('GETRANGE', KEYS[1], ARGV[1], ARGV[1] + 15)
local key = ARGV[2] .. subject
if not string.find(redis.call('GET', key) or '', ARGV[3], 1, true) then return 0 end
redis.call('APPEND', key, ARGV[4])
if ARGV[5] == '1' then redis.call('PERSIST', key) end
return 1
