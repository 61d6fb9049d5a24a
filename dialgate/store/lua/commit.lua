-- Count attempts, remember answers, note the position; or say which subjects are not as they were read, and write nothing.
-- A commit from before the log's fence was raised is refused. Where another subject bears an attempt's name, {-1} is given.
-- KEYS: positions, and then every watched subject, hash of names and answer.
-- ARGV: log, its new position, highest sequence written, lowest (nothing: no attempt), fence (or nothing), life of an attempt and
-- of an answer in ms; then number of watched subjects, of those that something was known of, and of each of these its place and
-- the value that was read; number of those that get lines, and of each its place, lines, and whether it ages; number of hashes of
-- attempts' names, then of answers', and of each how many words, and these (sequence, value, …); number of answers, and of each
-- its value, which begins with its instant.
local log, position, top, lowest, fence, life, remembers = unpack(ARGV, 1, 7)
local at, key = 7, 1
local function arg() at = at + 1; return ARGV[at] end
local function name() key = key + 1; return KEYS[key] end

local function values(first, last)
    local found = {}
    for from = first, last, 1000 do
        for n, value in ipairs(redis.call('MGET', unpack(KEYS, from, math.min(last, from + 999)))) do
            found[from - first + n] = value
        end
    end
    return found
end

local function instant(value) return tonumber(string.match(value, '^%d+')) end

local held = redis.call('HMGET', KEYS[1], log .. ' fence', log .. ' top')
if fence ~= '' and (held[1] or '0') ~= fence then
    return redis.error_reply('FENCED a commit that came too late')
end

local watched, known = tonumber(arg()), tonumber(arg())
local stale, seen, read = {}, values(2, 1 + watched), {}
for n = 1, known do read[tonumber(arg()) + 1] = arg() end
for n = 1, watched do
    if seen[n] ~= (read[n] or false) then stale[#stale + 1] = n - 1 end
end
if #stale > 0 then return stale end
key = 1 + watched

local changed = tonumber(arg())
local first = at + 1
at = at + 3 * changed
local names, others = tonumber(arg()), tonumber(arg())
local hashes = {}
for n = 1, names + others do
    local words = tonumber(arg())
    hashes[n] = {name(), at + 1, at + words}
    at = at + words
end
if lowest ~= '' and tonumber(held[2] or 0) >= tonumber(lowest) then
    for n = 1, names do
        local hash, from, to = unpack(hashes[n])
        for field = from, to, 2 do
            local subject = redis.call('HGET', hash, ARGV[field])
            if subject and subject ~= ARGV[field + 1] then return {-1} end
        end
    end
end

for n = first, first + 3 * changed - 1, 3 do
    local place, lines = tonumber(ARGV[n]), ARGV[n + 1]
    if seen[place + 1] then
        redis.call('APPEND', KEYS[2 + place], lines)
        if ARGV[n + 2] == '1' then redis.call('PEXPIRE', KEYS[2 + place], life) end
    else
        redis.call('SET', KEYS[2 + place], lines, 'PX', life)
    end
end
for n, each in ipairs(hashes) do
    redis.call('HSET', each[1], unpack(ARGV, each[2], each[3]))
    redis.call('PEXPIRE', each[1], n <= names and life or remembers)
end

local answers = tonumber(arg())
local before = answers > 0 and values(key + 1, key + answers)
for n = 1, answers do
    local value, answer = arg(), name()
    if not before[n] or instant(before[n]) <= instant(value) then
        redis.call('SET', answer, value, 'PX', remembers)
    end
end
if tonumber(held[2] or 0) < tonumber(top) then
    redis.call('HSET', KEYS[1], log, position, log .. ' top', top)
else
    redis.call('HSET', KEYS[1], log, position)
end
return {}
