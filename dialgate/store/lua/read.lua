-- KEYS: the ledger's sequence, subjects, answers. ARGV: how many subjects.
-- Gives the sequence, of each subject all its fields, of each answer its value or false.
local subjects, answers, last = {}, {}, tonumber(ARGV[1]) + 1
for at = 2, last do
    subjects[at - 1] = redis.call('HGETALL', KEYS[at])
end
for at = last + 1, #KEYS do
    answers[at - last] = redis.call('GET', KEYS[at])
end
return {tonumber(redis.call('GET', KEYS[1]) or 0), subjects, answers}
