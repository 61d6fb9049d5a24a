-- Replace values and clear names in index chunks. Return 0, with nothing written, if a value changed since it was read.
-- KEYS: the replaced values, then the chunks.
-- ARGV, in this order:
--   the number of replaced values;
--   for each value: the old value, the new value (empty: delete), and its life in ms (0: no expiry);
--   for each chunk: the number of names to clear, and the offset of each.
local replaced, at = tonumber(ARGV[1]), 1
for n = 1, replaced do
    if (redis.call('GET', KEYS[n]) or '') ~= ARGV[3 * n - 1] then return 0 end
end
for n = 1, replaced do
    local new, life = ARGV[3 * n], ARGV[3 * n + 1]
    if new == '' then
        redis.call('DEL', KEYS[n])
    elseif life == '0' then
        redis.call('SET', KEYS[n], new)
    else
        redis.call('SET', KEYS[n], new, 'PX', life)
    end
end
at = 1 + 3 * replaced
for n = replaced + 1, #KEYS do
    local names = tonumber(ARGV[at + 1])
    for name = at + 2, at + 1 + names do
        -- Do not create an expired chunk again: it would never expire.
        if redis.call('GETRANGE', KEYS[n], ARGV[name], ARGV[name]) ~= '' then
            redis.call('SETRANGE', KEYS[n], ARGV[name], string.rep('\0', 16))
        end
    end
    at = at + 1 + names
end
return 1
