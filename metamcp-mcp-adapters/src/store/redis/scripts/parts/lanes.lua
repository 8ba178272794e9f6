-- Lanes. Tenants take turns by virtual time: each job looked at moves its tenant's pass ahead by TURN / weight, and the tenant least far
-- ahead is next. One that comes back starts no further behind than the lane; when the lane runs empty all are level again.
--
--   n:<lane>           counts by state, v the lane's virtual time, p paused
--   r:<lane>:<tenant>  ready jobs by place · q:<lane> ready jobs by due time · d:<lane> delayed jobs by due time
--   turns:<lane>       tenants with ready jobs by pass · idle:<lane> tenants without, as long as they are ahead of the lane
--   w:<lane>           wake tokens: hints, one for each job that became ready
--   lanes              those that are not blank
local TURN = 1000 -- what one look costs a tenant of weight 1
local TOKENS_MAX = 256 -- most wake tokens of a lane
local LEVELLED_MAX = 100 -- most idle tenants forgotten by one call
local COUNTED = { 'r', 'b', 'w', 'd', 'l', 'i', 'X', 'v', 'p' }

local lanes = {}

local function is_blank(L) return L.r + L.b + L.w + L.d + L.l + L.i + L.X + L.p == 0 end

local function lane(name)
  local L = lanes[name]
  if L then return L end
  L = {
    name = name, tenants = {}, made = 0, turns = T .. ':turns:' .. name, idle = T .. ':idle:' .. name,
    ready = T .. ':q:' .. name, delayed = T .. ':d:' .. name,
  }
  for n, told in ipairs(R('HMGET', T .. ':n:' .. name, unpack(COUNTED))) do L[COUNTED[n]] = tonumber(told or 0) end
  L.was_blank = is_blank(L)
  lanes[name] = L
  return L
end

-- A tenant of a lane: its pass, and how many ready jobs it has.
local function tenant(L, name)
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

local function add_ready(L, h)
  local t = tenant(L, h.tn)
  if t.n == 0 then
    if t.idle then
      zset(L.idle, t.name, false)
      t.idle = nil
    end
    if t.pass < L.v then t.pass = L.v end
    zset(L.turns, t.name, print_number(t.pass))
    L.order = nil
  end
  zset(t.key, h.id, place(h))
  zset(L.ready, h.id, h.du)
  t.n, L.r, L.made, t.queue = t.n + 1, L.r + 1, L.made + 1, nil
end

-- The lane ran empty. Where its virtual time stands does not matter then, only what is ahead of it.
local function level(L)
  sets[L.idle] = nil -- with it goes what was to be written there
  R('UNLINK', L.idle)
  for _, t in pairs(L.tenants) do t.pass, t.idle = 0, nil end
  L.v = 0
end

local function remove_ready(L, h)
  local t = tenant(L, h.tn)
  zset(t.key, h.id, false)
  zset(L.ready, h.id, false)
  t.n, L.r = t.n - 1, L.r - 1
  if t.queue and t.queue[t.at] == h.id then t.at = t.at + 1 else t.queue = nil end
  if t.n > 0 then return end
  zset(L.turns, t.name, false)
  if t.pass > L.v then
    zset(L.idle, t.name, print_number(t.pass))
    t.idle = true
  else
    t.pass = 0
  end
  if L.r == 0 then level(L) end
end

local function wake(L, jobs)
  local tokens = {}
  for n = 1, math.min(jobs, L.r, TOKENS_MAX) do tokens[n] = 1 end
  if L.p == 0 and #tokens > 0 and R('LPUSH', T .. ':w:' .. L.name, unpack(tokens)) > TOKENS_MAX then
    R('LTRIM', T .. ':w:' .. L.name, 0, TOKENS_MAX - 1)
  end
end

local function write_lanes()
  for name, L in pairs(lanes) do
    local blank = is_blank(L)
    if blank then
      if not L.was_blank then
        R('DEL', T .. ':n:' .. name, T .. ':w:' .. name)
        R('ZREM', T .. ':lanes', name)
      end
    else
      if L.was_blank then R('ZADD', T .. ':lanes', 0, name) end
      R('HSET', T .. ':n:' .. name, 'r', L.r, 'b', L.b, 'w', L.w, 'd', L.d, 'l', L.l, 'i', L.i, 'X', L.X, 'v', L.v, 'p', L.p)
      wake(L, L.made)
      if L.paid then
        -- A tenant that the lane has caught up with is level with it, remembered or not.
        local behind = zdue(L.idle, L.v, LEVELLED_MAX)
        if #behind > 0 then R('ZREM', L.idle, unpack(behind)) end
      end
    end
  end
end
