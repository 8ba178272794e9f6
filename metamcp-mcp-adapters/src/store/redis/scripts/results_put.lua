-- Keeps bodies and pointers to them. ARGV: now, then for each pointer six: `tenant:digest`, `tenant/job/digest`, when it
-- may be removed or `inf`, its media type as one word, or nothing for JSON, where its body is, and as that tells: `whole`
-- the bytes, `uploaded` the end of their key, `there` nothing. Answers for each 1, or 0 when the body must be sent first.
--
--   body:<tenant>:<digest>  the bytes · refs  how many pointers each body has
--   ptrs  pointers, each `<tenant>/<job>/<digest>`, by when they may be removed · media  those that are not JSON
local ARGS = 6 -- arguments of a pointer
local PTRS, MEDIA, REFS = T .. ':ptrs', T .. ':media', T .. ':refs'
local names, bodies = {}, {} -- of each pointer
local stands = {} -- bodies that are in their places

-- Puts those that came with their pointers into their places, together when none is there, as is most common. What is
-- there is not written again.
local function place_whole()
  local keys, written = {}, {}
  for m, body in ipairs(bodies) do
    local i = 2 + (m - 1) * ARGS
    if ARGV[i + 4] == 'whole' and not stands[body] then
      local key = T .. ':body:' .. body
      stands[body], keys[#keys + 1] = true, key
      written[#written + 1], written[#written + 2] = key, ARGV[i + 5]
    end
  end
  local there = #keys > 0 and R('EXISTS', unpack(keys)) or 0
  if there == 0 then
    Q.in_chunks('MSET', written)
  elseif there < #keys then
    for n, key in ipairs(keys) do R('SET', key, written[2 * n], 'NX') end
  end
end

-- Whether a body that did not come with its pointer is in its place, or can be put there; `upload` is the end of the key
-- that it was sent under, if it was.
local function placed(body, where, upload)
  upload = where == 'uploaded' and T .. ':upload:' .. upload
  if not stands[body] and R('EXISTS', T .. ':body:' .. body) == 0 then
    if not upload or R('EXISTS', upload) == 0 then return false end
    R('RENAME', upload, T .. ':body:' .. body)
    R('PERSIST', T .. ':body:' .. body)
  elseif upload then
    R('UNLINK', upload)
  end
  stands[body] = true
  return true
end

-- Counts new pointers to bodies.
local function refer(counts)
  local of, written = {}, {}
  for body in pairs(counts) do of[#of + 1] = body end
  if #of == 0 then return end
  local before = R('HMGET', REFS, unpack(of))
  for m, body in ipairs(of) do
    written[2 * m - 1], written[2 * m] = body, Q.print((before[m] or 0) + counts[body])
  end
  R('HSET', REFS, unpack(written))
end

for i = 2, #ARGV, ARGS do
  names[#names + 1], bodies[#bodies + 1] = ARGV[i + 1], ARGV[i]
end
place_whole()
local known = R('ZMSCORE', PTRS, unpack(names))
local seen = {} -- pointers that are there, or come with this call
local counts, answers = {}, {}
for m, name in ipairs(names) do
  local i, body = 2 + (m - 1) * ARGS, bodies[m]
  local expires, media, where = ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  if where == 'whole' or placed(body, where, ARGV[i + 5]) then
    local stood = known[m] or seen[name]
    if not stood then counts[body] = (counts[body] or 0) + 1 end
    if media ~= '' then R('HSET', MEDIA, name, media) elseif stood then R('HDEL', MEDIA, name) end
    Q.zset(PTRS, name, expires)
    seen[name], answers[m] = true, 1
  else
    answers[m] = 0
  end
end
refer(counts)
Q.zflush(PTRS)
return answers
