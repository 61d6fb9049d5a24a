-- Return the newest version, and the counts that changed after a version as a flat list of fields and values.
-- KEYS: the hash of counts; the hash of changes. ARGV: the version, the most changes to look through before all counts are returned.
local call = redis.call
local newest, after = tonumber(call('HGET', KEYS[2], 'newest') or 0), tonumber(ARGV[1])
if after == 0 or after > newest or newest - after > tonumber(ARGV[2]) then return {newest, call('HGETALL', KEYS[1])} end

local seen, changed = {}, {}
for version = after + 1, newest do
    local field = call('HGET', KEYS[2], version)
    if field and not seen[field] then
        seen[field] = true
        changed[#changed + 1], changed[#changed + 2] = field, call('HGET', KEYS[1], field) or '0 0'
    end
end
return {newest, changed}
