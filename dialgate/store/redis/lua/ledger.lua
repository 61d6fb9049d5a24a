-- Append to the ledger and remove from it in one step. Return the first new sequence. Otherwise write nothing, and return
--   false if a value changed since it was read,
--   {end} if the ledger ends before the sequence that it is known to have reached.
-- KEYS: the sequence, the fingerprint of the keys, the subject of each new entry, each subject whose value is replaced.
-- ARGV, in this order:
--   the required fingerprint (empty: any), the sequence known to be reached;
--   the key prefix of the index of subjects, and the number of subjects in one chunk of the index;
--   the number of new entries, and for each entry its line after the sequence;
--   for each replaced value: the old value, the new value, and its life in ms (0: no expiry);
--   the sequences to remove.
local order, places, comes = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local others, at = #KEYS - 2 - comes, 5 + comes
if ARGV[1] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[1] then
    return redis.error_reply('FOREIGN the store was emptied or replaced: restore its data')
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
