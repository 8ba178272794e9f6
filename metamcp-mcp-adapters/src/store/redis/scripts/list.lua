-- One page of an index, newest first. ARGV: now, the index, before which id (`+`: from the newest), how many, and most
-- bytes of bodies. Answers whether there may be more, the last id that was looked at, and the jobs.
local ids = R('ZRANGE', T .. ':' .. ARGV[2], ARGV[3], '-', 'BYLEX', 'REV', 'LIMIT', 0, ARGV[4])
local bytes, looked = 0, {}
for n, id in ipairs(ids) do
  bytes = bytes + R('STRLEN', T .. ':b:' .. id)
  if n > 1 and bytes > tonumber(ARGV[5]) then break end
  looked[n] = id
end
local more = #looked < #ids or #ids == tonumber(ARGV[4])
return { more and 1 or 0, looked[#looked] or '', Q.jobs_of(looked) }
