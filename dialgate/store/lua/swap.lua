-- Put values in the place of others, and take names out of their pieces; or give 0, and write nothing, where one is not what was read.
-- KEYS: what is replaced, then the pieces. ARGV: how many are replaced; of each the old value, the new one (nothing: it goes), its
-- life in ms (0 without end); of each piece how many names go, and at which byte each begins.
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
        -- One that has expired is not made again, to last for ever.
        if redis.call('GETRANGE', KEYS[n], ARGV[name], ARGV[name]) ~= '' then
            redis.call('SETRANGE', KEYS[n], ARGV[name], string.rep('\0', 16))
        end
    end
    at = at + 1 + names
end
return 1
