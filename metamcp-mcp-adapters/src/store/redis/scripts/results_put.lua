-- Keeps a body and a pointer to it. ARGV: now, tenant, job, digest, media type, when it may be removed or `-`, and
-- where the body is: `whole` and the bytes, `uploaded` and the end of their key, or `there` and nothing. Answers 1, or
-- 0 when the body must be sent first.
--
--   body:<tenant>:<digest>  the bytes · refs  how many pointers each body has
--   ptr:<tenant>/<job>/<digest>  media type and end of a pointer · expiring  pointers by their end
local tenant, job, digest, media, expires, where, bytes = unpack(ARGV, 2, 8)
local body = T .. ':body:' .. tenant .. ':' .. digest
local name = tenant .. '/' .. job .. '/' .. digest
local stands = R('EXISTS', body) == 1
if where == 'uploaded' then
  local upload = T .. ':upload:' .. bytes
  if stands then
    R('UNLINK', upload)
  elseif R('EXISTS', upload) == 1 then
    R('RENAME', upload, body)
    R('PERSIST', body)
    stands = true
  end
elseif where == 'whole' and not stands then
  R('SET', body, bytes)
  stands = true
end
if not stands then return 0 end
if R('EXISTS', T .. ':ptr:' .. name) == 0 then R('HINCRBY', T .. ':refs', tenant .. ':' .. digest, 1) end
R('HSET', T .. ':ptr:' .. name, 'media', media, 'expires', expires)
if expires == '-' then R('ZREM', T .. ':expiring', name) else R('ZADD', T .. ':expiring', expires, name) end
return 1
