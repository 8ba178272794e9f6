-- Keeps bodies and pointers to them. ARGV: now, then for each pointer three: the words of WORDS, its media type, and of its
-- body, as the last word tells: `whole` the bytes, `uploaded` the end of their key, `there` nothing. Answers for each 1,
-- or 0 when the body must be sent first.
--
--   body:<tenant>:<digest>  the bytes · refs  how many pointers each body has
--   ptr:<tenant>/<job>/<digest>  media type and end of a pointer · expiring  pointers by their end

-- tenant, job, digest, when the pointer may be removed or `-`, where the body is.
local WORDS = '^(%S+) (%S+) (%S+) (%S+) (%S+)$'
local stands, refs, answers = {}, {}, {}

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

for i = 2, #ARGV, 3 do
  local tenant, job, digest, expires, where = ARGV[i]:match(WORDS)
  local body, name = tenant .. ':' .. digest, tenant .. '/' .. job .. '/' .. digest
  local kept = placed(body, where, ARGV[i + 2])
  if kept then
    -- Both fields are new: so is the pointer.
    if R('HSET', T .. ':ptr:' .. name, 'media', ARGV[i + 1], 'expires', expires) == 2 then
      refs[body] = (refs[body] or 0) + 1
    end
    Q.zset(T .. ':expiring', name, expires ~= '-' and expires)
  end
  answers[#answers + 1] = kept and 1 or 0
end
for body, count in pairs(refs) do R('HINCRBY', T .. ':refs', body, Q.print(count)) end
Q.zflush(T .. ':expiring')
return answers
