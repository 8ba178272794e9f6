-- Accepts jobs. ARGV: now, most jobs of a lane's backlog, then for each job three: the words of WORDS, the cold part of
-- its head, and its body, empty when it is large and was set before. Answers for each `ok <now>`, `duplicate <id>
-- <state>`, `conflict <id>`, `full`, `missing <id>`, or `resend` when the large body is not there.

-- id, lane, tenant, priority, delay, deadline, retention, owner, idempotency key, flags, then nonce, worker and
-- visibility of the lease that it comes with, and then the jobs it names as parents.
local WORDS = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) ?(.*)$'
local TENANT, KEY = 3, 9 -- which of the words tell the tenant and the idempotency key
local backlog_max = tonumber(ARGV[2])
local answers = {}
local texts = {} -- bodies and idempotency keys, which are written at the end
local takers = {} -- the jobs that idempotency keys stand for, by where the keys are kept

local function accept(words, key_at, cold, body)
  local id, lane, tenant, priority, delay, deadline, retain, owner, _, flags, nonce, worker, visibility, after =
    unpack(words)
  if Q.head(id) then return 'duplicate ' .. id .. ' ' .. Q.head(id).st end
  local other = takers[key_at] and Q.head(takers[key_at])
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
    texts[#texts + 1], texts[#texts + 2] = T .. ':b:' .. id, body
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
  if key_at then
    takers[key_at] = id
    texts[#texts + 1], texts[#texts + 2] = key_at, id
  end
  return 'ok ' .. NOW
end

local words, ids, keys, key_at = {}, {}, {}, {}
for n = 1, (#ARGV - 2) / 3 do
  words[n] = { ARGV[3 * n]:match(WORDS) }
  ids[n] = words[n][1]
  if words[n][KEY] ~= '-' then
    key_at[n] = T .. ':i:' .. words[n][TENANT] .. ':' .. words[n][KEY]
    keys[#keys + 1] = key_at[n]
  end
end
for n, id in ipairs(Q.in_chunks('MGET', keys)) do
  if id then takers[keys[n]], ids[#ids + 1] = id, id end
end
Q.fetch(ids)
for n = 1, #words do answers[n] = accept(words[n], key_at[n], ARGV[3 * n + 1], ARGV[3 * n + 2]) end
Q.in_chunks('MSET', texts)
Q.flush()
return answers
