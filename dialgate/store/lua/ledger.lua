-- Write to the ledger, and take out of it, in one step. Gives the first of the new sequences; or nothing, and nothing is written,
-- where a value is not what was read.
-- KEYS: its sequence, whose it is, then the subject of each entry that comes, then each subject that is to have another value.
-- ARGV: whose it must be (nothing: anybody's), and how far it is known to have come: where it ends before, that is given, as {end}, and
-- nothing is written; what the keys of its order begin with, how many subjects one of them holds; how many come, and of each its line
-- after the sequence; of each other value the old, the new, and its life in ms (0 without end); then the sequences that go.
local order, places, comes = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local others, at = #KEYS - 2 - comes, 5 + comes
if ARGV[1] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[1] then
    return redis.error_reply('FOREIGN it was emptied, or another has taken its place: bring back what it held')
end
local newest = tonumber(redis.call('GET', KEYS[1]) or 0)
if newest < tonumber(ARGV[2]) then return {newest} end
for n = 1, others do
    if (redis.call('GET', KEYS[2 + comes + n]) or '') ~= ARGV[at + 3 * n - 2] then return false end
end
for n = 1, others do
    local key, new, life = KEYS[2 + comes + n], ARGV[at + 3 * n - 1], ARGV[at + 3 * n]
    if new == '' then
        redis.call('DEL', key)
    elseif life == '0' then
        redis.call('SET', key, new)
    else
        redis.call('SET', key, new, 'PX', life)
    end
end

local function note(seq, subjects)
    local place = (seq - 1) % places
    redis.call('SETRANGE', order .. (seq - 1 - place) / places, place * 16, subjects)
end
for n = at + 3 * others + 1, #ARGV do note(tonumber(ARGV[n]), string.rep('\0', 16)) end

local first = redis.call('INCRBY', KEYS[1], comes) - comes + 1
local from, subjects = first, {}
for n = 1, comes do
    local seq, key = first + n - 1, KEYS[2 + n]
    local line = '["e",' .. seq .. ARGV[5 + n]
    if redis.call('APPEND', key, line) > #line then redis.call('PERSIST', key) end
    subjects[#subjects + 1] = string.sub(key, -16)
    if seq % places == 0 or n == comes then
        note(from, table.concat(subjects))
        from, subjects = seq + 1, {}
    end
end
return first
