-- Records of a kind in order of name. ARGV: now, kind, after which name (`-`: from the first, else `(name`), how many,
-- and most bytes of values. Answers whether there may be more, the last name that was looked at, and name, version and
-- value of each.
local names = R('ZRANGE', T .. ':names:' .. ARGV[2], ARGV[3], '+', 'BYLEX', 'LIMIT', 0, ARGV[4])
local told, bytes, last = {}, 0, ''
for _, name in ipairs(names) do
  if bytes > tonumber(ARGV[5]) then return { 1, last, told } end
  local version, value = standing(ARGV[2], name)
  if version then
    told[#told + 1] = { name, version, value }
    bytes = bytes + #value
  end
  last = name
end
return { #names == tonumber(ARGV[4]) and 1 or 0, last, told }
