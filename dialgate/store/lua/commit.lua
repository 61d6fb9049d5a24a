-- Count attempts, remember answers, note the position; or say which subjects have changed and write nothing.
-- A commit from before the log's fence was raised is refused. KEYS: positions, what this log wrote last, fences, and then every watched subject, attempt's name and answer.
-- ARGV: log, sequence, how many entries `last` keeps, the fence or nothing; then number of watched subjects, and of each its seen version;
-- number of attempts, and of each the place of its subject, decision, its sequence, body, life in ms; number of answers,
-- and of each its instant, value, decision's sequence, life in ms.
local at = 5
local function arg() at = at + 1; return ARGV[at - 1] end
if ARGV[4] ~= '' and (redis.call('HGET', KEYS[3], ARGV[1]) or '0') ~= ARGV[4] then
    return redis.error_reply('FENCED a commit that came too late')
end
local watched = tonumber(arg())
local stale = {}
for n = 1, watched do
    if (redis.call('HGET', KEYS[3 + n], 'v') or '0') ~= arg() then
        stale[#stale + 1] = n - 1
    end
end
if #stale > 0 then return stale end

local attempts = tonumber(arg())
for n = 1, attempts do
    local subject, name = KEYS[4 + tonumber(arg())], KEYS[3 + watched + n]
    local decision, seq, body, life = arg(), arg(), arg(), arg()
    local before = redis.call('GET', name)
    if before and before ~= subject then
        redis.call('HDEL', before, 'a' .. decision, 'r' .. decision)
        redis.call('HINCRBY', before, 'v', 1)
    end
    if before ~= subject or redis.call('HGET', subject, 'a' .. decision) ~= body then
        redis.call('HSET', subject, 'a' .. decision, body)
        redis.call('HDEL', subject, 'r' .. decision)
        redis.call('HINCRBY', subject, 'v', 1)
        redis.call('SET', name, subject, 'PX', life)
        redis.call('ZADD', KEYS[2], seq, 'a' .. name .. ' ' .. decision)
    end
    if redis.call('HEXISTS', subject, 'n') == 0 then
        redis.call('PEXPIRE', subject, life)
    end
end

local answers = tonumber(arg())
for n = 1, answers do
    local key = KEYS[3 + watched + attempts + n]
    local instant, value, seq, life = arg(), arg(), arg(), arg()
    local before = redis.call('GET', key)
    if not before or tonumber(string.match(before, '^%d+')) <= tonumber(instant) then
        redis.call('SET', key, value, 'PX', life)
        redis.call('ZADD', KEYS[2], seq, 'q' .. key)
    end
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return {}
