-- Count attempts, remember answers, store the position, and return {}. Otherwise write nothing, and return
--   {-1} if a decision id is in use for a different subject,
--   {-2, fence} if the log's fence was raised,
--   {-3} if a watched value changed since it was read,
--   {-4} if the server lacks an earlier commit of this gate, because it is an older copy.
-- KEYS and ARGV: see `Commit` in dialgate/store/redis/commit.py.
local call, number = redis.call, tonumber
local commit = cmsgpack.unpack(ARGV[1])
local positions, recorded, terms, log = KEYS[1], KEYS[2], KEYS[3], commit.log

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

-- Redis 7.2.0 to 7.2.4 write the number 100000000 as 1e+8.
local function digits(whole) return string.format('%.0f', whole) end

local function instant(value) return number(string.match(value, '^%d+')) end

local seen, read, expires = commit.watched > 0 and values(4, 3 + commit.watched) or {}, {}, {}
local before_known = 1 + #commit.attempt_runs + #commit.answer_runs + commit.answers
for n, known in ipairs(commit.known) do
    read[known[1]], expires[known[1]] = ARGV[before_known + n], known[2]
end
for n = 1, commit.watched do
    if seen[n] ~= (read[n] or false) then return {-3} end
end

-- Compare the fence after the values: an emptied server lacks the fence too, but must be reported as changed.
local held = call('HMGET', positions, log .. ' fence', log .. ' top')
local fence, top = number(held[1] or 0), number(held[2] or 0)
if commit.fence ~= 0 and fence ~= commit.fence then return {-2, fence} end
if top < commit.committed then return {-4} end

local runs = #commit.attempt_runs + #commit.answer_runs
local before_chunks = #KEYS - runs
if commit.lowest > 0 and top >= commit.lowest then
    local nothing = string.rep('\0', 16)
    for n, begins in ipairs(commit.attempt_runs) do
        local names = ARGV[1 + n]
        local there = call('GETRANGE', KEYS[before_chunks + n], begins, begins + #names - 1)
        for at = 1, #there, 16 do
            local name = string.sub(there, at, at + 15)
            if name ~= nothing and name ~= string.sub(names, at, at + 15) then return {-1} end
        end
    end
end

local attempts_kept, answers_kept = digits(commit.attempts_kept), digits(commit.answers_kept)
local before_attempts = before_known + #commit.known
for n = 1, commit.subjects do
    -- SET allocates what it needs, and APPEND up to twice as much.
    local subject, value = KEYS[3 + n], (seen[n] or '') .. ARGV[before_attempts + n]
    if seen[n] and not expires[n] then
        call('SET', subject, value, 'KEEPTTL')
    else
        call('SET', subject, value, 'PX', attempts_kept)
    end
end
for n = before_attempts + commit.subjects + 1, #ARGV do
    call('HSETNX', terms, string.sub(ARGV[n], 1, 8), string.sub(ARGV[n], 9))
end
local counted = #commit.attempt_runs
for n = 1, runs do
    local begins, chunk = n <= counted and commit.attempt_runs[n] or commit.answer_runs[n - counted], KEYS[before_chunks + n]
    -- Allocate a whole chunk at once: growing it by SETRANGE allocates up to twice as much.
    if call('GETRANGE', chunk, 0, 0) == '' then call('SETRANGE', chunk, commit.chunk_bytes - 1, '\0') end
    call('SETRANGE', chunk, begins, ARGV[1 + n])
    call('PEXPIRE', chunk, n <= counted and attempts_kept or answers_kept)
end

for n = 1, commit.answers do
    local answer, new = KEYS[before_chunks - commit.answers + n], ARGV[1 + runs + n]
    if not call('SET', answer, new, 'NX', 'PX', answers_kept) and instant(call('GET', answer)) <= instant(new) then
        call('SET', answer, new, 'PX', answers_kept)
    end
end
call('HSET', positions, log, digits(commit.position), log .. ' top', digits(math.max(top, commit.highest)))
if number(call('HGET', recorded, log) or 0) < commit.durable then call('HSET', recorded, log, digits(commit.durable)) end
return {}
