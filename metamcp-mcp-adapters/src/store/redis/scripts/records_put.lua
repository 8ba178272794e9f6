-- Writes a record. ARGV: now, kind, name, value, the version that must stand (`any`, or 0 for none), for how long or
-- empty. Answers 1 and the version it has now, or 0 and the one that stands, 0 for none.
local SWEEP_MAX = 8 -- most expired records that one write removes
local kind, name, value, expect, ttl = unpack(ARGV, 2, 6)
for _, ended in ipairs(R('ZRANGE', T .. ':rec_ends', '-inf', now, 'BYSCORE', 'LIMIT', 0, SWEEP_MAX)) do
  remove(ended:match('^([^:]+):(.*)$'))
end
local version = standing(kind, name) or 0
if expect ~= 'any' and tonumber(expect) ~= version then return { 0, version } end
local til = ttl ~= '' and now + ttl or ''
R('HSET', record_at(kind, name), 'v', version + 1, 'd', value, 'u', til)
R('ZADD', T .. ':names:' .. kind, 0, name)
if til == '' then
  R('ZREM', T .. ':rec_ends', kind .. ':' .. name)
else
  R('ZADD', T .. ':rec_ends', til, kind .. ':' .. name)
end
return { 1, version + 1 }
