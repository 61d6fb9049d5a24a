-- Remove a log from those that have not acknowledged the generation. Return the generation as stored.
-- KEYS: the generation; the hash of positions. ARGV: the log; the generation and the log's fence that its gate knows (empty: any).
local stored = redis.call('GET', KEYS[1]) or ''
local number = string.match(stored, '^%d+')
local known = number == ARGV[2] and redis.call('HGET', KEYS[2], ARGV[1] .. ' fence') == ARGV[3]
if ARGV[2] ~= '' and not known then return stored end
local left = number or ''
for log in string.gmatch(stored, ' +(%S+)') do
    if log ~= ARGV[1] then left = left .. ' ' .. log end
end
if left ~= stored then redis.call('SET', KEYS[1], left) end
return left
