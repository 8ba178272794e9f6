-- Accepts jobs. ARGV: now, most jobs of a lane's backlog, then for each job three: the words of WORDS, the cold part of
-- its head, and its body, empty when it is large and was set before. Answers for each `ok <now>`, `duplicate <id>
-- <state>`, `conflict <id>`, `full`, `missing <id>`, or `resend` when the large body is not there.

-- id, lane, tenant, priority, delay, deadline, retention, owner, idempotency key, flags, then nonce, worker and
-- visibility of the lease that it comes with, and then the jobs it names as parents.
local WORDS = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) ?(.*)$'
local backlog_max = tonumber(ARGV[2])
local answers, bodies = {}, {}

local function accept(words, cold, body)
  local id, lane, tenant, priority, delay, deadline, retain, owner, key, flags, nonce, worker, visibility, after =
    words:match(WORDS)
  if Q.head(id) then return 'duplicate ' .. id .. ' ' .. Q.head(id).st end
  local key_at = key ~= '-' and T .. ':i:' .. tenant .. ':' .. key
  local taken_by = key_at and R('GET', key_at)
  local other = taken_by and Q.head(taken_by)
  if other then
    if Q.warm(other).dg ~= cold:match('%S+$') then return 'conflict ' .. other.id end
    return 'duplicate ' .. other.id .. ' ' .. other.st
  end
  local L = Q.lane(lane)
  if L.r + L.d + L.b + L.w >= backlog_max then return 'full' end
  if after ~= '' then Q.fetch_all(after) end
  for parent in after:gmatch('%S+') do
    if not Q.head(parent) or Q.head(parent).tn ~= tenant then return 'missing ' .. parent end
  end

  local h = {
    id = id, st = delay == '0' and 'r' or 'd', ln = lane, tn = tenant, pr = priority, du = Q.print(now + delay),
    ep = '0', no = '0', wk = '-', un = '-', le = '-', fl = flags, us = '0', sa = '-', up = NOW, fi = '-',
    da = deadline == '-' and '-' or Q.print(now + deadline), rt = retain, cr = NOW, rs = '-', cf = '-',
    cold = cold, ow = owner,
  }
  -- It was set with a time to live, for the case that the job is never accepted.
  if Q.has(h, 'B') then
    if R('PERSIST', T .. ':b:' .. id) == 0 then return 'resend' end
  else
    bodies[#bodies + 1], bodies[#bodies + 2] = T .. ':b:' .. id, body
  end
  if after ~= '' then
    Q.put_part(h, 'a', after)
    Q.wait_on(h, Q.undone(after))
  end
  if nonce ~= '-' then
    Q.hold(h, { nonce = nonce, worker = worker, lease_until = Q.print(now + visibility) })
  end
  Q.insert(h)
  if after ~= '' then Q.keep_parents(after) end
  if key_at then R('SET', key_at, id) end
  return 'ok ' .. NOW
end

local ids = {}
for i = 3, #ARGV, 3 do ids[#ids + 1] = ARGV[i]:sub(1, Q.ID) end
Q.fetch(ids)
for i = 3, #ARGV, 3 do answers[#answers + 1] = accept(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
Q.in_chunks('MSET', bodies)
Q.flush()
return answers
