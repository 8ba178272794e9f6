-- Takes in jobs just as another store held them. ARGV: now, then for each job its id, head, body, and how many
-- arguments follow: name and value of the fields of x:<id>. Answers for each `ok`, `exists`, `taken <id>`, or `resend`
-- when the large body is not there.
local answers, bodies = {}, {}

local function restore(id, told, body, parts)
  if Q.head(id) then return 'exists' end
  local h = Q.warm(Q.parse(id, told))
  local key_at = T .. ':i:' .. h.tn .. ':' .. h.ik
  local other = h.ik ~= '-' and R('GET', key_at)
  if other then return 'taken ' .. other end
  if Q.has(h, 'B') then
    if R('PERSIST', T .. ':b:' .. id) == 0 then return 'resend' end
  else
    bodies[#bodies + 1], bodies[#bodies + 2] = T .. ':b:' .. id, body
  end
  for n = 1, #parts, 2 do Q.put_part(h, parts[n], parts[n + 1]) end
  if h.st == 'w' then h.wo = Q.part(h, 'w') end
  Q.insert(h)
  if h.ik ~= '-' then R('SET', key_at, id) end
  -- Which of parent and child is taken in first does not matter; what nobody waits for is forgotten by maintenance.
  if Q.FINAL[h.st] then Q.zset(Q.UNSETTLED, id, '0') end
  for parent in (h.wo or ''):gmatch('%S+') do Q.zset(Q.UNSETTLED, parent, '0') end
  return 'ok'
end

local i = 2
while i <= #ARGV do
  local count = tonumber(ARGV[i + 3])
  local parts = { unpack(ARGV, i + 4, i + 3 + count) }
  answers[#answers + 1] = restore(ARGV[i], ARGV[i + 1], ARGV[i + 2], parts)
  i = i + 4 + count
end
Q.in_chunks('MSET', bodies)
Q.flush()
return answers
