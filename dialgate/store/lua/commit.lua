-- Count attempts, remember answers, note the position; or say which subjects are not as they were read, and write nothing.
-- A commit from before the log's fence was raised writes nothing: {-2, the fence} is given. Where another subject bears an
-- attempt's name, {-1} is given.
-- KEYS: positions, and then every watched subject, hash of names and answer.
-- ARGV: log, its new position, highest sequence written, lowest (nothing: no attempt), fence (or nothing), life of an attempt and
-- of an answer in ms; then number of watched subjects, of those that something was known of, and of each of these its place and
-- the value that was read; number of those that get lines, and of each its place, lines, and whether it ages; number of hashes of
-- attempts' names, then of answers', and of each how many words, and these (sequence, value, …); number of answers, and of each
-- its value, which begins with its instant.
local call, number = redis.call, tonumber
local log, position, top, lowest, fence, life, remembers, watched, known = unpack(ARGV, 1, 9)
watched, known = number(watched), number(known)

local function values(first, last)
    if last - first < 1000 then return call('MGET', unpack(KEYS, first, last)) end
    local found = {}
    for from = first, last, 1000 do
        for n, value in ipairs(call('MGET', unpack(KEYS, from, math.min(last, from + 999)))) do
            found[from - first + n] = value
        end
    end
    return found
end

local function instant(value) return number(string.match(value, '^%d+')) end

local held = call('HMGET', KEYS[1], log .. ' fence', log .. ' top')
if fence ~= '' and (held[1] or '0') ~= fence then return {-2, number(held[1] or 0)} end

local stale, seen, read = {}, watched > 0 and values(2, 1 + watched) or {}, {}
for n = 10, 8 + 2 * known, 2 do read[number(ARGV[n]) + 1] = ARGV[n + 1] end
for n = 1, watched do
    if seen[n] ~= (read[n] or false) then stale[#stale + 1] = n - 1 end
end
if #stale > 0 then return stale end

local at, key = 10 + 2 * known, 1 + watched
local first, last = at + 1, at + 3 * number(ARGV[at])
local names, others = number(ARGV[last + 1]), number(ARGV[last + 2])
local hashes = {}
at = last + 2
for n = 1, names + others do
    local words = number(ARGV[at + 1])
    hashes[n] = {KEYS[key + n], at + 2, at + 1 + words}
    at = at + 1 + words
end
key = key + names + others
if lowest ~= '' and number(held[2] or 0) >= number(lowest) then
    for n = 1, names do
        local hash, from, to = unpack(hashes[n])
        for field = from, to, 2 do
            local subject = call('HGET', hash, ARGV[field])
            if subject and subject ~= ARGV[field + 1] then return {-1} end
        end
    end
end

for n = first, last, 3 do
    local place = ARGV[n]
    if seen[place + 1] then
        call('APPEND', KEYS[place + 2], ARGV[n + 1])
        if ARGV[n + 2] == '1' then call('PEXPIRE', KEYS[place + 2], life) end
    else
        call('SET', KEYS[place + 2], ARGV[n + 1], 'PX', life)
    end
end
for n, each in ipairs(hashes) do
    call('HSET', each[1], unpack(ARGV, each[2], each[3]))
    call('PEXPIRE', each[1], n <= names and life or remembers)
end

at = at + 1
for n = 1, number(ARGV[at]) do
    local answer, value = KEYS[key + n], ARGV[at + n]
    if not call('SET', answer, value, 'NX', 'PX', remembers) and instant(call('GET', answer)) <= instant(value) then
        call('SET', answer, value, 'PX', remembers)
    end
end
if number(held[2] or 0) < number(top) then
    call('HSET', KEYS[1], log, position, log .. ' top', top)
else
    call('HSET', KEYS[1], log, position)
end
return {}
