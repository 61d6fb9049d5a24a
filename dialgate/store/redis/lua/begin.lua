-- Begin a generation if the store lacks something that a gate has seen, and raise the counters to what it has seen.
-- Return the generation as stored. KEYS: the generation; the hash of positions.
-- ARGV: the gate's generation; a log whose attempts the store lacks (empty: none); the logs of the running gates, separated by spaces;
-- then the field and the highest value of each counter.
local call, number = redis.call, tonumber
local stored = call('GET', KEYS[1]) or ''
local current, known = number(string.match(stored, '^%d+') or 0), number(ARGV[1])
local older, waiting = current < known or ARGV[2] ~= '', ARGV[3]
for n = 4, #ARGV, 2 do
    local field, seen = ARGV[n], ARGV[n + 1]
    if number(call('HGET', KEYS[2], field) or 0) < number(seen) then
        call('HSET', KEYS[2], field, seen)
        older, waiting = true, waiting .. ' ' .. string.match(field, '^%S+')
    end
end
if older then
    -- A log for which the generation before still waits may lack its attempts here too, even if its gate no longer runs.
    for log in string.gmatch(stored, ' (%S+)') do waiting = waiting .. ' ' .. log end
    stored = string.format('%d %s', math.max(current, known) + 1, waiting)
    call('SET', KEYS[1], stored)
end
return stored
