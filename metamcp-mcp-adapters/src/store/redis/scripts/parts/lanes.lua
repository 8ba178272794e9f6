-- Lanes. Tenants take turns by virtual time: each job looked at moves its tenant's pass ahead by TURN / weight, and the
-- tenant least far ahead is next. One that comes back starts no further behind than the lane; when the lane runs empty
-- all are level again.
--
--   n:<lane>           counts by state, then v the lane's virtual time and p whether it is paused; see COUNTS
--   r:<lane>:<tenant>  ready jobs by place · d:<lane> delayed jobs by due time
--   q:<lane>           instants at which ready jobs became due, in order · qn:<lane> how many of them at each
--   turns:<lane>       tenants with ready jobs by pass
--   idle:<lane>        tenants without, by pass, as long as they are ahead of the lane
--   w:<lane>           wake tokens: hints, one for each job that became ready, or is delayed and due before all others
--   lanes              those that are not blank
Q.TURN = 1000000 -- what one look costs a tenant of weight 1
Q.TOKENS_MAX = 256 -- most wake tokens of a lane
Q.LEVELLED_MAX = 100 -- most idle tenants forgotten by one call
Q.COUNTS = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$'
Q.lanes = {}

function Q.is_blank(L) return L.r + L.b + L.w + L.d + L.l + L.i + L.X + L.p == 0 end

function Q.lane(name)
  local L = Q.lanes[name]
  if L then return L end
  local before = R('GET', T .. ':n:' .. name) or '0 0 0 0 0 0 0 0 0'
  local r, b, w, d, l, i, X, v, p = before:match(Q.COUNTS)
  L = {
    r = r + 0, b = b + 0, w = w + 0, d = d + 0, l = l + 0, i = i + 0, X = X + 0, v = v + 0, p = p + 0, before = before,
    name = name, tenants = {}, made = 0, turns = T .. ':turns:' .. name, idle = T .. ':idle:' .. name,
    dues = {}, due_at = T .. ':q:' .. name, due_counts = T .. ':qn:' .. name, delayed = T .. ':d:' .. name,
  }
  L.was_blank = Q.is_blank(L)
  Q.lanes[name] = L
  return L
end

-- A tenant of a lane: its pass, and how many ready jobs it has.
function Q.tenant(L, name)
  local t = L.tenants[name]
  if t then return t end
  t = { name = name, pass = 0, n = 0, key = T .. ':r:' .. L.name .. ':' .. name }
  -- Of a lane without ready jobs nothing is remembered.
  if L.r > 0 then
    local pass = R('ZSCORE', L.turns, name)
    if pass then
      t.n = R('ZCARD', t.key)
    else
      pass = R('ZSCORE', L.idle, name)
      t.idle = pass and true
    end
    t.pass = tonumber(pass or 0)
  end
  L.tenants[name] = t
  return t
end

-- Counts ready jobs of a tenant that are to be put into its queue.
function Q.count_ready(L, t, due, count)
  if t.n == 0 then
    if t.idle then
      Q.zset(L.idle, t.name, false)
      t.idle = nil
    end
    if t.pass < L.v then t.pass = L.v end
    Q.zset(L.turns, t.name, Q.print(t.pass))
    L.order = nil
  end
  L.dues[due] = (L.dues[due] or 0) + count
  t.n, L.r, L.made, t.queue = t.n + count, L.r + count, L.made + count, nil
end

function Q.add_ready(L, h)
  local t = Q.tenant(L, h.tn)
  Q.count_ready(L, t, h.du, 1)
  Q.zset(t.key, h.id, Q.place(h))
end

-- Puts in jobs that differ in nothing but their ids; `h` is the head of one.
function Q.add_all_ready(L, h, ids)
  local t = Q.tenant(L, h.tn)
  Q.count_ready(L, t, h.du, #ids)
  Q.zset_all({ t.key }, Q.place(h), ids, 1, #ids)
end

-- The lane ran empty. Where its virtual time stands does not matter then, only what is ahead of it.
function Q.level(L)
  Q.sets[L.idle] = nil -- with it goes what was to be written there
  R('UNLINK', L.idle)
  for _, t in pairs(L.tenants) do t.pass, t.idle = 0, nil end
  L.v = 0
end

function Q.remove_ready(L, id, tenant, due)
  local t = Q.tenant(L, tenant)
  Q.zset(t.key, id, false)
  L.dues[due] = (L.dues[due] or 0) - 1
  if t.queue and t.queue[t.at] == id then t.at = t.at + 1 else t.queue = nil end
  Q.uncount_ready(L, t, 1)
end

-- Takes the first jobs of the queue that was read out of it, up to where it stands now; `first` is where it stood.
function Q.remove_first(L, t, first)
  Q.zrem_all(t.key, t.queue, first, t.at - 1)
  Q.uncount_ready(L, t, t.at - first)
end

function Q.uncount_ready(L, t, count)
  t.n, L.r = t.n - count, L.r - count
  if t.n > 0 then return end
  Q.zset(L.turns, t.name, false)
  if t.pass > L.v then
    Q.zset(L.idle, t.name, Q.print(t.pass))
    t.idle = true
  else
    t.pass = 0
  end
  if L.r == 0 then Q.level(L) end
end

-- How long until a job of the lane may be leased; nil: time alone brings none.
function Q.wait_of(L)
  if L.p == 1 then return nil end
  if L.r > 0 then return 0 end
  local due = L.d > 0 and Q.zfirst_score(L.delayed)
  return due and math.max(due - now, 0)
end

-- Whether a job came that is due before all others: who sleeps until another one is due must hear of it.
function Q.is_sooner(L)
  return L.soonest and L.r == 0 and tonumber(Q.zfirst_score(L.delayed)) == L.soonest
end

function Q.wake(L)
  local tokens = {}
  for n = 1, math.min(L.made, L.r, Q.TOKENS_MAX) do tokens[n] = '1' end
  if Q.is_sooner(L) then tokens[1] = '1' end
  if L.p == 0 and #tokens > 0 and R('LPUSH', T .. ':w:' .. L.name, unpack(tokens)) > Q.TOKENS_MAX then
    R('LTRIM', T .. ':w:' .. L.name, '0', Q.print(Q.TOKENS_MAX - 1))
  end
end

-- Writes when ready jobs became due. Those of one call often share one instant.
function Q.write_dues(L)
  if L.r == 0 then
    if next(L.dues) then R('UNLINK', L.due_at, L.due_counts) end
    return
  end
  for due, by in pairs(L.dues) do
    local count = by ~= 0 and R('HINCRBY', L.due_counts, due, Q.print(by))
    if count and count <= 0 then
      R('HDEL', L.due_counts, due)
      Q.zset(L.due_at, due, false)
    elseif count == by then
      Q.zset(L.due_at, due, due)
    end
  end
end

-- Writes how far ahead those are who were looked at; once, however many turns they had.
function Q.write_passes(L)
  for name, t in pairs(L.tenants) do
    if t.paid and t.n > 0 then Q.zset(L.turns, name, Q.print(t.pass)) end
    t.paid = nil
  end
end

function Q.write_lane(name, L)
  Q.write_dues(L)
  if Q.is_blank(L) then
    if not L.was_blank then
      R('DEL', T .. ':n:' .. name, T .. ':w:' .. name)
      R('ZREM', T .. ':lanes', name)
    end
    return
  end
  if L.was_blank then R('ZADD', T .. ':lanes', '0', name) end
  local counts = string.format('%d %d %d %d %d %d %d %d %d', L.r, L.b, L.w, L.d, L.l, L.i, L.X, L.v, L.p)
  if counts ~= L.before then R('SET', T .. ':n:' .. name, counts) end
  if L.made > 0 or L.soonest then Q.wake(L) end
  if L.paid and L.r > 0 then
    Q.write_passes(L)
    -- A tenant that the lane has caught up with is level with it, remembered or not.
    local behind = Q.zdue(L.idle, L.v, Q.LEVELLED_MAX)
    if #behind > 0 then R('ZREM', L.idle, unpack(behind)) end
  end
end
