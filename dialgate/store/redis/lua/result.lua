-- Record the result of an allowed call, and update the count of its campaign. Return how many results the attempts of its log have had,
-- or 0 if no such attempt is counted.
-- KEYS: the index chunk with the name of the attempt's subject; the hash of counts; the hash of changes; the hash of positions.
-- ARGV: the offset in the chunk, the prefix of a subject's key, the start of the attempt's line, the start of the lines of its results,
-- the line of the new result, the results that count as answered, in JSON, the number of changes to keep, and the field of the log's results.
local call = redis.call
local subject = call('GETRANGE', KEYS[1], ARGV[1], ARGV[1] + 15)
local key = ARGV[2] .. subject

local attempt, result, since
local function take(line)
    if string.sub(line, 1, #ARGV[3]) == ARGV[3] then
        attempt, result, since = cjson.decode(line), 'pending', 0
    elseif attempt and string.sub(line, 1, #ARGV[4]) == ARGV[4] then
        local ended = cjson.decode(line)
        if ended[3] >= since then result, since = ended[4], ended[3] end
    end
end
for line in string.gmatch(call('GET', key) or '', '[^\n]+') do take(line) end
if not attempt then return 0 end

local before = result
take(ARGV[5])
call('APPEND', key, ARGV[5])
if result == 'abandoned' then call('PERSIST', key) end

local answered = {}
for _, name in ipairs(cjson.decode(ARGV[6])) do answered[name] = 1 end
local more = (answered[result] or 0) - (answered[before] or 0)
local silent = (result == 'abandoned' and 1 or 0) - (before == 'abandoned' and 1 or 0)
if more ~= 0 or silent ~= 0 then
    local field = string.format('%d', math.floor(attempt[3] / 3600000)) .. ' ' .. attempt[4]
    local old = call('HGET', KEYS[2], field) or '0 0'
    local spoken, quiet = string.match(old, '(%d+) (%d+)')
    call('HSET', KEYS[2], field, (spoken + more) .. ' ' .. (quiet + silent))
    local version = call('HINCRBY', KEYS[3], 'newest', 1)
    call('HSET', KEYS[3], version, field)
    call('HDEL', KEYS[3], version - ARGV[7])
end
return call('HINCRBY', KEYS[4], ARGV[8], 1)
