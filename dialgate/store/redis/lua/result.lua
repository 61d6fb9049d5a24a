-- Store a subject's value with the result of an allowed call, and update the count of its campaign. Return how many results the attempts
-- of its log have had, or 0, with nothing written, if the value changed since it was read.
-- KEYS: the subject; the hash of counts; the hash of changes; the hash of positions.
-- ARGV: the old value, the new value, its life in ms (0: no expiry), the field of the campaign's hour, the changes of its answered and
-- its abandoned calls, the number of changes to keep, and the field of the log's results.
local call = redis.call
if call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
if ARGV[3] == '0' then call('PERSIST', KEYS[1]) end

if ARGV[5] ~= '0' or ARGV[6] ~= '0' then
    local spoken, quiet = string.match(call('HGET', KEYS[2], ARGV[4]) or '0 0', '(%d+) (%d+)')
    call('HSET', KEYS[2], ARGV[4], (spoken + ARGV[5]) .. ' ' .. (quiet + ARGV[6]))
    local version = call('HINCRBY', KEYS[3], 'newest', 1)
    call('HSET', KEYS[3], version, ARGV[4])
    call('HDEL', KEYS[3], version - ARGV[7])
end
return call('HINCRBY', KEYS[4], ARGV[8], 1)
