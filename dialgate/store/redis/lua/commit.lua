-- Count attempts, remember answers, store the position, and return {}. Otherwise write nothing, and return
--   {-1} if a decision id is in use for a different subject,
--   {-2, fence} if the log's fence was raised,
--   {-3} if a watched value changed since it was read,
--   {-4} if the server lacks an earlier commit of this gate, because it is an older copy.
-- KEYS: the hash of positions; the watched subjects, those that get lines first; the index chunk of each run of attempts, then of each
-- run of answers; the key of each answer; the hash of durable sequences.
-- ARGV, in this order:
--   the log, its new position, the highest and the lowest sequence written (lowest empty without attempts), the fence (or empty),
--   the last sequence on the log's disk, the highest sequence that this gate has committed, the life of an attempt and of an answer in ms;
--   the numbers of subjects that get lines, of watched subjects, of runs of attempts, of runs of answers, of watched subjects with a value;
--   for each watched subject with a value: its place, the value that was read, and whether it expires;
--   the lines;
--   for each run: its offset and its names;
--   the value of each answer, which begins with its instant.
local call, number = redis.call, tonumber
local log, position, top, lowest, fence, durable, committed, life, remembers, changed, watched, counted, given, known = unpack(ARGV, 1, 14)
changed, watched, counted, given, known = number(changed), number(watched), number(counted), number(given), number(known)

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

local seen, read, ages = watched > 0 and values(2, 1 + watched) or {}, {}, {}
for n = 15, 12 + 3 * known, 3 do
    local place = number(ARGV[n]) + 1
    read[place], ages[place] = ARGV[n + 1], ARGV[n + 2] == '1'
end
for n = 1, watched do
    if seen[n] ~= (read[n] or false) then return {-3} end
end

-- Compare the fence after the values: an emptied server lacks the fence too, but must be reported as changed.
local held = call('HMGET', KEYS[1], log .. ' fence', log .. ' top')
if fence ~= '' and (held[1] or '0') ~= fence then return {-2, number(held[1] or 0)} end
if number(held[2] or 0) < number(committed) then return {-4} end

local line, chunk = 14 + 3 * known, 1 + watched
local run = line + changed
if lowest ~= '' and number(held[2] or 0) >= number(lowest) then
    local nothing = string.rep('\0', 16)
    for n = 1, counted do
        local begins, names = number(ARGV[run + 2 * n - 1]), ARGV[run + 2 * n]
        local there = call('GETRANGE', KEYS[chunk + n], begins, begins + #names - 1)
        for at = 1, #there, 16 do
            local name = string.sub(there, at, at + 15)
            if name ~= nothing and name ~= string.sub(names, at, at + 15) then return {-1} end
        end
    end
end

for n = 1, changed do
    local subject = KEYS[1 + n]
    if seen[n] then
        call('APPEND', subject, ARGV[line + n])
        if ages[n] then call('PEXPIRE', subject, life) end
    else
        call('SET', subject, ARGV[line + n], 'PX', life)
    end
end
for n = 1, counted + given do
    call('SETRANGE', KEYS[chunk + n], ARGV[run + 2 * n - 1], ARGV[run + 2 * n])
    call('PEXPIRE', KEYS[chunk + n], n <= counted and life or remembers)
end

local last, value = chunk + counted + given, run + 2 * (counted + given)
for n = 1, #KEYS - 1 - last do
    local answer, new = KEYS[last + n], ARGV[value + n]
    if not call('SET', answer, new, 'NX', 'PX', remembers) and instant(call('GET', answer)) <= instant(new) then
        call('SET', answer, new, 'PX', remembers)
    end
end
if number(held[2] or 0) < number(top) then
    call('HSET', KEYS[1], log, position, log .. ' top', top)
else
    call('HSET', KEYS[1], log, position)
end
if number(call('HGET', KEYS[#KEYS], log) or 0) < number(durable) then call('HSET', KEYS[#KEYS], log, durable) end
return {}
