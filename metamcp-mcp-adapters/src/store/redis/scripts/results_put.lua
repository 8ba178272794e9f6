-- Keeps bodies and pointers to them. ARGV: now, then for each pointer five: `tenant:digest`, `tenant/job/digest`, what
-- is kept of it, where its body is, and as that tells: `whole` the bytes, `uploaded` the end of their key, `there`
-- nothing. Answers for each 1, or 0 when the body must be sent first.
--
--   body:<tenant>:<digest>  the bytes · refs  how many pointers each body has
--   ptr:<tenant>/<job>/<digest>  a pointer: when it may be removed or `-`, then its media type
--   expiring  pointers by their end
local ARGS = 5 -- arguments of a pointer
local stands, refs, answers, keys = {}, {}, {}, {}
local kept, n = {}, 0 -- pointers and what is kept of them, to be written

-- Whether a body is in its place, or can be put there.
local function placed(body, where, bytes)
  if stands[body] then
    if where == 'uploaded' then R('UNLINK', T .. ':upload:' .. bytes) end
    return true
  end
  if where == 'whole' then
    R('SET', T .. ':body:' .. body, bytes, 'NX')
  elseif R('EXISTS', T .. ':body:' .. body) == 0 then
    local upload = T .. ':upload:' .. bytes
    if where == 'there' or R('EXISTS', upload) == 0 then return false end
    R('RENAME', upload, T .. ':body:' .. body)
    R('PERSIST', T .. ':body:' .. body)
  elseif where == 'uploaded' then
    R('UNLINK', T .. ':upload:' .. bytes)
  end
  stands[body] = true
  return true
end

for i = 3, #ARGV, ARGS do keys[#keys + 1] = T .. ':ptr:' .. ARGV[i] end
local known = Q.in_chunks('MGET', keys)
local seen = {} -- pointers that are there, or come with this call

for m, key in ipairs(keys) do
  local i = 2 + (m - 1) * ARGS
  local body, name, told = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local is_placed = placed(body, ARGV[i + 3], ARGV[i + 4])
  if is_placed and (seen[name] or known[m] ~= told) then
    if not (known[m] or seen[name]) then refs[body] = (refs[body] or 0) + 1 end
    seen[name] = true
    kept[n + 1], kept[n + 2], n = key, told, n + 2
    Q.zset(T .. ':expiring', name, told:match('^%d+') or false)
  end
  answers[m] = is_placed and 1 or 0
end
Q.in_chunks('MSET', kept)
for body, count in pairs(refs) do R('HINCRBY', T .. ':refs', body, Q.print(count)) end
Q.zflush(T .. ':expiring')
return answers
