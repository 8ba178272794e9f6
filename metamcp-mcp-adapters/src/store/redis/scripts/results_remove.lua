-- Removes pointers, and bodies that no pointer is left to. ARGV: now, then either `name` and a pointer, or `before`, an
-- instant and how many: those that expired before it. Answers how many.
local function remove(name)
  if R('ZREM', T .. ':ptrs', name) == 0 then return 0 end
  R('HDEL', T .. ':media', name)
  local tenant, digest = name:match('^([^/]+)/[^/]+/(.+)$')
  if R('HINCRBY', T .. ':refs', tenant .. ':' .. digest, -1) <= 0 then
    R('HDEL', T .. ':refs', tenant .. ':' .. digest)
    R('UNLINK', T .. ':body:' .. tenant .. ':' .. digest)
  end
  return 1
end

if ARGV[2] == 'name' then return remove(ARGV[3]) end
local removed = 0
for _, name in ipairs(R('ZRANGE', T .. ':ptrs', '-inf', '(' .. ARGV[3], 'BYSCORE', 'LIMIT', 0, ARGV[4])) do
  removed = removed + remove(name)
end
return removed
