-- Takes ready jobs. ARGV: now, worker, request, nonce, most jobs, visibility, weights as ` tenant=weight tenant=weight
-- `, how long a request is remembered, then for each lane its name and how many of it may be leased at a time, `-` for
-- any number. Answers how long until something more may be leased, -1 when nothing waits that time alone would bring,
-- then the jobs.
local W = {
  worker = ARGV[2], request = ARGV[3], nonce = ARGV[4], max = tonumber(ARGV[5]),
  lease_until = Q.print(now + ARGV[6]), weights = ARGV[7], kept_ms = ARGV[8], grants = T .. ':g:' .. ARGV[2],
  ids = {}, epochs = {}, n = 0,
  -- A ready head without flags and users: epoch, when it started, from where on the rest stays, when due. Most are so.
  PLAIN = '^%- 0 r (%d+) %S+ (%S+) %S+ %S+ %S+ %S+ %- %- %- ()(%S+)',
  to_promote = 512, -- most due jobs promoted
  to_set_aside = 512, -- most jobs passed over or delayed on the way
  turns_read = 16, -- tenants read at a time
  due_read = 100, -- delayed jobs read at a time
}

-- What a plain head says of its lease, and the timer of that.
W.held_with = ' ' .. W.nonce .. ' '
W.held_by = ' ' .. W.worker .. ' ' .. W.lease_until .. ' - ' .. NOW .. ' - - - '
W.timer = Q.print(W.lease_until * 8 + Q.LEASE)

-- The jobs of the same request made before, as far as they are still held; `false`: it was not made. One reply may be
-- lost, and the grants must not be lost with it.
function W.replay()
  local request, nonce, keys = (R('GET', W.grants) or ''):match('^(%S+) (%S+) (.+)$')
  if request ~= W.request then return false end
  local ids = {}
  for id in keys:gmatch('(%S+) %S+') do ids[#ids + 1] = id end
  Q.fetch(ids)
  for id, epoch in keys:gmatch('(%S+) (%S+)') do
    if Q.holds(Q.head(id), epoch, nonce) then W.ids[#W.ids + 1] = id end
  end
  return true
end

-- Remembers what was granted, for the case that the reply is lost.
function W.remember()
  local keys = {}
  for n = 1, W.n do keys[2 * n - 1], keys[2 * n] = W.ids[n], W.epochs[n] end
  R('SET', W.grants, W.request .. ' ' .. W.nonce .. ' ' .. table.concat(keys, ' '), 'PX', W.kept_ms)
end

-- Whether a tenant is earlier at turn. Not by `<` on names: that goes by the locale of the server.
function W.earlier(a, b)
  if a.pass ~= b.pass then return a.pass < b.pass end
  for n = 1, math.min(#a.name, #b.name) do
    local x, y = a.name:byte(n), b.name:byte(n)
    if x ~= y then return x < y end
  end
  return #a.name < #b.name
end

-- The tenant whose turn it is, and who is next if somebody is. The first tenants are read once and kept in order here,
-- until one that was not read may be earlier.
function W.at_turn(L)
  local best, rival = nil, L.last_read
  for _, t in ipairs(L.order or {}) do
    if t.n > 0 then
      if not best or W.earlier(t, best) then t, best = best, t end
      if t and (not rival or W.earlier(t, rival)) then rival = t end
    end
  end
  if best and not (L.last_read and W.earlier(L.last_read, best)) then return best, rival end
  if L.r == 0 then return nil end
  Q.write_passes(L)
  L.order = {}
  for n, name in ipairs(Q.zfirst(L.turns, W.turns_read)) do L.order[n] = Q.tenant(L, name) end
  local last = L.order[W.turns_read]
  L.last_read = last and { pass = last.pass, name = last.name }
  return L.order[1], L.order[2]
end

-- The first ready job of a tenant.
function W.first_ready(L, t)
  local id = t.queue and t.queue[t.at]
  if not id then
    t.queue, t.at = Q.zfirst(t.key, math.ceil((W.max - W.n) / #L.order) + 1), 1
    Q.fetch(t.queue)
    id = t.queue[1]
  end
  return id
end

-- The tenant pays for the job that is looked at, also for one that is only looked at: a flood of those holds nobody
-- else up.
function W.pay_turn(L, t)
  t.weight = t.weight or tonumber(W.weights:match(' ' .. t.name:gsub('%p', '%%%0') .. '=(%d+) ') or 1)
  if L.v < t.pass then L.v = t.pass end
  t.pass = t.pass + math.max(math.floor(Q.TURN / t.weight), 1)
  t.paid, L.paid = true, true
end

-- The next free slot of a rate (the generic cell rate algorithm), where its time is kept, and up to when it is taken
-- with this slot.
function W.next_slot(h)
  local every, burst, key = Q.warm(h).rk:match('^(%d+):(%d+):(.+)$')
  local at = T .. ':rate:' .. key
  local arrival = math.max(tonumber(R('GET', at) or 0), now)
  return math.max(arrival - every * (burst - 1), now), at, arrival + every
end

function W.take_slot(at, taken_until)
  -- Kept longer than it is needed: what is forgotten early would let a job go too early.
  R('SET', at, Q.print(taken_until), 'PX', Q.print(taken_until - now + 60000))
end

function W.block(h) h.st = 'b' end

function W.admit_later(h, slot)
  Q.requeue(h, slot - now)
  Q.set_flag(h, 'd')
end

-- Whether the concurrency key of a job is held as often as it may be.
function W.is_full_for(h)
  if not Q.has(h, 'L') then return false end
  local key, most = Q.limit(h)
  return Q.holders(key) >= most
end

-- Gives a job whose turn it is a lease; or passes it over when its concurrency key is full, or delays it when it comes
-- too early for its rate. Answers whether it did: no more than TO_SET_ASIDE jobs are set aside.
function W.serve(L, t, h)
  local full = W.is_full_for(h)
  local slot, at, taken_until
  if not full and Q.has(h, 'R') and not Q.has(h, 'd') then slot, at, taken_until = W.next_slot(h) end
  local early = slot and slot > now
  if (full or early) and W.to_set_aside <= 0 then return false end
  W.pay_turn(L, t)
  if slot then W.take_slot(at, taken_until) end
  if full then
    Q.change(h, W.block)
  elseif early then
    Q.change(h, W.admit_later, slot)
  else
    Q.change(h, Q.hold, W)
    W.granted(h.id, h.ep)
    return true
  end
  W.to_set_aside = W.to_set_aside - 1
  return true
end

function W.granted(id, epoch)
  local n = W.n + 1
  W.ids[n], W.epochs[n], W.n = id, epoch, n
end

-- Gives the plain jobs at the front of a tenant's queue their leases, as `Q.hold` would, as long as it is its turn: only
-- what changes is touched. Answers whether there was one.
function W.serve_plain(L, t, rival, most)
  W.first_ready(L, t)
  local heads, queue, first = Q.heads, t.queue, t.at
  local at = first
  while at - first < most and (at == first or not rival or W.earlier(t, rival)) do
    local id = queue[at]
    local text = id and heads[id]
    if type(text) ~= 'string' then break end
    local epoch, started, rest, due = text:match(W.PLAIN)
    if not epoch then break end
    epoch = Q.print(epoch + 1)
    if started == '-' then started = NOW end
    W.pay_turn(L, t)
    Q.rewrite(id, '- 0 l ' .. epoch .. W.held_with .. started .. W.held_by .. text:sub(rest))
    L.dues[due] = (L.dues[due] or 0) - 1
    W.granted(id, epoch)
    at = at + 1
  end
  if at == first then return false end
  t.at = at
  Q.index_first_leased(L, t, first, W.timer)
  return true
end

-- Looks at the first job of the tenant at turn. Answers whether to go on.
function W.look(L, t)
  local id = W.first_ready(L, t)
  local h = id and Q.head(id)
  if h then return W.serve(L, t, h) end
  -- Its head was removed by other hands: it must not hold up the lane. When it became due nobody knows: that is put
  -- right when the lane runs empty.
  Q.remove_ready(L, id or '', t.name, '-')
  W.to_set_aside = W.to_set_aside - 1
  return W.to_set_aside > 0
end

function W.promote_due(L)
  while W.to_promote > 0 and L.d > 0 do
    local due = Q.zdue(L.delayed, now, math.min(W.to_promote, W.due_read))
    if #due == 0 then return end
    Q.fetch(due)
    for _, id in ipairs(due) do
      if Q.head(id) then Q.change(Q.head(id), Q.promote) else Q.zset(L.delayed, id, false) end
      W.to_promote = W.to_promote - 1
    end
  end
end

function W.grant(L, leased_max)
  W.promote_due(L)
  leased_max = leased_max or math.huge
  while W.n < W.max and L.l < leased_max do
    local t, rival = W.at_turn(L)
    if not t then return end
    local most = math.min(W.max - W.n, leased_max - L.l)
    if not W.serve_plain(L, t, rival, most) and not W.look(L, t) then return end
  end
end

if not W.replay() then
  for n = 9, #ARGV, 2 do
    local L = Q.lane(ARGV[n])
    if L.p == 0 and W.n < W.max then W.grant(L, tonumber(ARGV[n + 1])) end
  end
  if W.n > 0 then W.remember() end
end
Q.flush()

local next_due = -1
for n = 9, #ARGV, 2 do
  local L = Q.lane(ARGV[n])
  local wait = Q.wait_of(L)
  if wait and (next_due < 0 or wait < next_due) then next_due = wait end
  -- Tokens that nobody took are for jobs that are gone.
  if L.r == 0 then R('DEL', T .. ':w:' .. L.name) end
end
return { next_due, Q.jobs_of(W.ids) }
