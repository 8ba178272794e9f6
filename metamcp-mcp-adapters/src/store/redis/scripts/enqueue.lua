-- Accepts jobs. ARGV: now, most jobs of a lane's backlog, then for each job three: the words of WORDS, the cold part of its head, and its body,
-- empty when it is large and was set before. Answers for each `ok <now>`, `duplicate <id> <state>`, `conflict <id>`, `full`,
-- `missing <id>`, or `resend` when the large body is not there.
-- id, lane, tenant, priority, delay, deadline, retention, owner, idempotency key, flags, and then the jobs it names as parents.
local WORDS = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) ?(.*)$'
local backlog_max = tonumber(ARGV[2])
local answers, bodies = {}, {}

local function accept(words, cold, body)
  local id, lane_name, tenant_name, priority, delay, deadline, retain, owner, key, flags, after = match(words, WORDS)
  if head(id) then return 'duplicate ' .. id .. ' ' .. head(id).st end
  local key_at = key ~= '-' and T .. ':i:' .. tenant_name .. ':' .. key
  local taken_by = key_at and R('GET', key_at)
  local other = taken_by and head(taken_by)
  if other then
    if warm(other).dg ~= match(cold, '%S+$') then return 'conflict ' .. other.id end
    return 'duplicate ' .. other.id .. ' ' .. other.st
  end
  local L = lane(lane_name)
  if L.r + L.d + L.b + L.w >= backlog_max then return 'full' end
  for parent in gmatch(after, '%S+') do
    if not head(parent) or head(parent).tn ~= tenant_name then return 'missing ' .. parent end
  end

  local h = {
    id = id, st = delay == '0' and 'r' or 'd', ln = lane_name, tn = tenant_name, pr = priority, du = print_number(now + delay),
    ep = '0', no = '0', wk = '-', un = '-', le = '-', fl = flags, us = '0', sa = '-', up = NOW, fi = '-',
    da = deadline == '-' and '-' or print_number(now + deadline), rt = retain, cr = NOW, rs = '-', cf = '-', cold = cold, ow = owner,
  }
  -- Set with a time to live, for the case that the job is never accepted.
  if has(h, 'B') then
    if R('PERSIST', T .. ':b:' .. id) == 0 then return 'resend' end
  else
    bodies[#bodies + 1], bodies[#bodies + 2] = T .. ':b:' .. id, body
  end
  if after ~= '' then
    put_part(h, 'a', after)
    wait_on(h, undone(after))
  end
  insert(h)
  keep_parents(after)
  if key_at then R('SET', key_at, id) end
  return 'ok ' .. NOW
end

local ids = {}
for i = 3, #ARGV, 3 do ids[#ids + 1] = match(ARGV[i], '^%S+') end
fetch(ids)
for i = 3, #ARGV, 3 do answers[#answers + 1] = accept(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
in_chunks('MSET', bodies)
flush()
return answers
