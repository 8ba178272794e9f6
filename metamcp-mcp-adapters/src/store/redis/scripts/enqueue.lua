-- Accepts jobs. ARGV: now, most jobs of a lane's backlog, then for each job six: id, terms, idempotency key or `-`, the
-- jobs it names as parents, the cold part of its head, and its body, empty when it is large and was set before. Answers
-- for each `ok <now>`, `duplicate <id> <state>`, `conflict <id>`, `full`, `missing <id>`, or `resend` when the large
-- body is not there.

-- What many jobs of a call have in common, and is read once: lane, tenant, priority, delay, deadline, retention, owner,
-- flags, then nonce, worker and visibility of the lease that they come with.
local TERMS = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$'
local ARGS = 6 -- arguments of a job
local backlog_max = tonumber(ARGV[2])
local all_terms = {} -- by their words
local takers = {} -- the jobs that idempotency keys stand for, by where the keys are kept

-- The terms as a head that lacks the id, and the hot part of its text. Most jobs are plain: ready at once, of no lease,
-- with a small body. Their heads are put together as text, and what the indexes need of them is the same for all of the
-- same terms.
local function read_terms(words)
  local lane, tenant, priority, delay, deadline, retain, owner, flags, nonce, worker, visibility = words:match(TERMS)
  deadline = deadline == '-' and '-' or Q.print(now + deadline)
  local hot = table.concat({
    flags, '0', delay == '0' and 'r' or 'd', '0', '0', '-', '-', '-', '-', NOW,
    '-', '-', '-', Q.print(now + delay), lane, retain, tenant, priority, deadline, NOW, '',
  }, ' ')
  local terms = Q.parse('', hot)
  terms.hot, terms.ow, terms.lane = hot, owner, Q.lane(lane)
  terms.keys, terms.is_large = T .. ':i:' .. tenant .. ':', flags:find('B', 1, true)
  if nonce ~= '-' then
    terms.lease = { nonce = nonce, worker = worker, lease_until = Q.print(now + visibility) }
  end
  terms.is_plain = not terms.lease and not terms.is_large and terms.st == 'r'
  terms.ids, terms.lane.gathered = {}, 0 -- plain jobs that are not in the indexes yet
  all_terms[words] = terms
  return terms
end

-- Puts the plain jobs that were gathered into the indexes.
local function index_gathered()
  for _, terms in pairs(all_terms) do
    if #terms.ids > 0 then
      Q.index_all_new(terms, terms.ids)
      terms.ids, terms.lane.gathered = {}, 0
    end
  end
end

local function is_full(L) return L.r + L.d + L.b + L.w + L.gathered >= backlog_max end

local function insert(id, terms, after, cold)
  local h = Q.parse(id, terms.hot .. cold)
  if after ~= '' then
    Q.put_part(h, 'a', after)
    Q.wait_on(h, Q.undone(after))
  end
  if terms.lease then Q.hold(h, terms.lease) end
  Q.insert(h)
  if after ~= '' then Q.keep_parents(after) end
end

local function accept(id, terms, key_at, after, cold, body)
  local known = Q.heads[id] and Q.head(id)
  if known then return 'duplicate ' .. id .. ' ' .. known.st end
  local other = key_at and takers[key_at] and Q.head(takers[key_at])
  if other then
    if Q.warm(other).dg ~= cold:match('%S+$') then return 'conflict ' .. other.id end
    return 'duplicate ' .. other.id .. ' ' .. other.st
  end
  if is_full(terms.lane) then return 'full' end
  if after ~= '' then Q.fetch_all(after) end
  for parent in after:gmatch('%S+') do
    if not Q.head(parent) or Q.head(parent).tn ~= terms.tn then return 'missing ' .. parent end
  end
  -- It was set with a time to live, for the case that the job is never accepted.
  if terms.is_large then
    if R('PERSIST', T .. ':b:' .. id) == 0 then return 'resend' end
  else
    Q.write(T .. ':b:' .. id, body)
  end
  insert(id, terms, after, cold)
  if key_at then
    takers[key_at] = id
    Q.write(key_at, id)
  end
  return 'ok ' .. NOW
end

-- Takes in a plain job that is new. Answers whether it is one.
local function accept_plain(id, terms, key_at, after, cold, body)
  if not terms.is_plain or after ~= '' or Q.heads[id] or key_at and takers[key_at] or is_full(terms.lane) then
    return false
  end
  local text, written, n = terms.hot .. cold, Q.written, Q.written_n + 4
  Q.heads[id] = text
  written[n - 3], written[n - 2], written[n - 1], written[n] = Q.JOB .. id, text, T .. ':b:' .. id, body
  Q.written_n = n
  if key_at then
    takers[key_at] = id
    Q.write(key_at, id)
  end
  terms.ids[#terms.ids + 1], terms.lane.gathered = id, terms.lane.gathered + 1
  return true
end

local ids, keys, terms_of, keys_at, n = {}, {}, {}, {}, 0
for i = 3, #ARGV, ARGS do
  local words, key = ARGV[i + 1], ARGV[i + 2]
  n = n + 1
  ids[n], terms_of[n] = ARGV[i], all_terms[words] or read_terms(words)
  if key ~= '-' then
    keys_at[n] = terms_of[n].keys .. key
    keys[#keys + 1] = keys_at[n]
  end
end
local jobs = n
for m, id in ipairs(Q.in_chunks('MGET', keys)) do
  if id then
    n = n + 1
    takers[keys[m]], ids[n] = id, id
  end
end
Q.fetch(ids)
local answers, accepted = {}, 'ok ' .. NOW
for m = 1, jobs do
  local i = 3 + (m - 1) * ARGS
  local id, terms, key_at, after, cold, body = ids[m], terms_of[m], keys_at[m], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  if accept_plain(id, terms, key_at, after, cold, body) then
    answers[m] = accepted
  else
    -- It may concern one of those that were gathered.
    index_gathered()
    answers[m] = accept(id, terms, key_at, after, cold, body)
  end
end
index_gathered()
Q.flush()
return answers
