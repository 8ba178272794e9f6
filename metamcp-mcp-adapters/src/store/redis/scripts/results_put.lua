-- Keeps bodies and pointers to them. ARGV: now, then for each pointer six: `tenant:digest`, `tenant/job/digest`, when it
-- may be removed or `inf`, its media type as one word, or nothing for JSON, where its body is, and as that tells: `whole` the bytes,
-- `uploaded` the end of their key, `there` nothing. Answers for each 1, or 0 when the body must be sent first.
--
--   body:<tenant>:<digest>  the bytes · refs  how many pointers each body has
--   ptrs  pointers, each `<tenant>/<job>/<digest>`, by when they may be removed · media  those that are not JSON
local ARGS = 6 -- arguments of a pointer
local PTRS, MEDIA = T .. ':ptrs', T .. ':media'
local stands, refs, answers, names = {}, {}, {}, {}

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

for i = 3, #ARGV, ARGS do names[#names + 1] = ARGV[i] end
local known = R('ZMSCORE', PTRS, unpack(names))
local seen = {} -- pointers that are there, or come with this call

for m, name in ipairs(names) do
  local i = 2 + (m - 1) * ARGS
  local body, expires, media = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  local is_placed = placed(body, ARGV[i + 4], ARGV[i + 5])
  if is_placed then
    local stood = known[m] or seen[name]
    if not stood then refs[body] = (refs[body] or 0) + 1 end
    if media ~= '' then R('HSET', MEDIA, name, media) elseif stood then R('HDEL', MEDIA, name) end
    Q.zset(PTRS, name, expires)
    seen[name] = true
  end
  answers[m] = is_placed and 1 or 0
end
for body, count in pairs(refs) do R('HINCRBY', T .. ':refs', body, Q.print(count)) end
Q.zflush(PTRS)
return answers
