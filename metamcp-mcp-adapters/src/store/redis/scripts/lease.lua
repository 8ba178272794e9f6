-- Takes ready jobs. ARGV: now, worker, request, nonce, most jobs, visibility, weights as ` tenant=weight tenant=weight `, how long a request
-- is remembered, then for each lane its name and how many of it may be leased at a time, `-` for any number. Answers how long until
-- something more may be leased, -1 when nothing waits that time alone would bring, then the jobs.
local SIDE_MOVES_MAX = 512 -- most jobs promoted, passed over or delayed on the way
local TURNS_READ = 16 -- tenants read at a time
local DUE_READ = 100 -- delayed jobs read at a time
local worker, request, nonce, max, visibility = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local weights = ARGV[7]
local grants_at = T .. ':g:' .. worker
local side_moves = SIDE_MOVES_MAX
local lease_until = print_number(now + visibility)

-- The jobs of the same request made before, as far as they are still held; nil when it was not made. One reply may be lost, and the grants
-- must not be lost with it.
local function replay()
  local before, before_nonce, keys = match(R('GET', grants_at) or '', '^(%S+) (%S+) (.+)$')
  if before ~= request then return nil end
  local ids, held_ids = {}, {}
  for id in gmatch(keys, '(%S+) %S+') do ids[#ids + 1] = id end
  fetch(ids)
  for id, epoch in gmatch(keys, '(%S+) (%S+)') do
    if holds(head(id), epoch, before_nonce) then held_ids[#held_ids + 1] = id end
  end
  return held_ids
end

-- Whether a tenant is earlier at turn. Not by `<` on names: that goes by the locale of the server.
local function earlier(a, b)
  if a.pass ~= b.pass then return a.pass < b.pass end
  for n = 1, math.min(#a.name, #b.name) do
    local x, y = a.name:byte(n), b.name:byte(n)
    if x ~= y then return x < y end
  end
  return #a.name < #b.name
end

-- The tenant whose turn it is. The first tenants are read once and kept in order here, until one that was not read may be earlier.
local function at_turn(L)
  local best
  for _, t in ipairs(L.order or {}) do
    if t.n > 0 and (not best or earlier(t, best)) then best = t end
  end
  if best and not (L.last_read and earlier(L.last_read, best)) then return best end
  if L.r == 0 then return nil end
  L.order = {}
  for n, name in ipairs(zfirst(L.turns, TURNS_READ)) do L.order[n] = tenant(L, name) end
  local last = L.order[TURNS_READ]
  L.last_read = last and { pass = last.pass, name = last.name }
  return L.order[1]
end

-- The first ready job of a tenant.
local function first_ready(L, t, wanted)
  if not t.queue or not t.queue[t.at] then
    t.queue, t.at = zfirst(t.key, math.ceil(wanted / #L.order) + 1), 1
    fetch(t.queue)
  end
  return t.queue[t.at]
end

-- The tenant pays for the job that is looked at, also for one that is only looked at: a flood of those holds nobody else up.
local function pay_turn(L, t)
  t.weight = t.weight or tonumber(match(weights, ' ' .. gsub(t.name, '%p', '%%%0') .. '=(%d+) ') or 1)
  if L.v < t.pass then L.v = t.pass end
  t.pass = t.pass + math.max(math.floor(TURN / t.weight), 1)
  zset(L.turns, t.name, print_number(t.pass))
  L.paid = true
end

-- The next free slot of a rate (the generic cell rate algorithm).
local function take_slot(h)
  local every, burst, key = match(warm(h).rk, '^(%d+):(%d+):(.+)$')
  local at = T .. ':rate:' .. key
  local arrival = math.max(tonumber(R('GET', at) or 0), now)
  local slot = math.max(arrival - every * (burst - 1), now)
  local taken_until = arrival + every
  -- Kept longer than it is needed: what is forgotten early would let a job go too early.
  R('SET', at, taken_until, 'PX', taken_until - now + 60000)
  return slot
end

-- Passes a job over whose concurrency key is full, delays one that comes too early for its rate.
local function set_aside(h)
  if has(h, 'L') then
    local key, most = limit(h)
    if holders(key) >= most then
      change(h, block)
      return true
    end
  end
  if not has(h, 'R') or has(h, 'd') then return false end
  local slot = take_slot(h)
  if slot <= now then return false end
  change(h, admit_later, slot)
  return true
end

local function hold(h)
  h.st, h.ep, h.no, h.wk, h.un, h.le = 'l', print_number(h.ep + 1), nonce, worker, lease_until, '-'
  if h.sa == '-' then h.sa = NOW end
  clear_flag(h, 'd')
end

local function promote_due(L)
  while side_moves > 0 and L.d > 0 do
    local due = zdue(L.delayed, now, math.min(side_moves, DUE_READ))
    if #due == 0 then return end
    fetch(due)
    for _, id in ipairs(due) do
      if head(id) then change(head(id), promote) else zset(L.delayed, id, false) end
      side_moves = side_moves - 1
    end
  end
end

local function grant(ids)
  for n = 9, #ARGV, 2 do
    local L, leased_max = lane(ARGV[n]), tonumber(ARGV[n + 1])
    if L.p == 0 and #ids < max then
      promote_due(L)
      while #ids < max and side_moves > 0 and (not leased_max or L.l < leased_max) do
        local t = at_turn(L)
        if not t then break end
        local id = first_ready(L, t, max - #ids)
        local h = id and head(id)
        if h then
          pay_turn(L, t)
          if set_aside(h) then
            side_moves = side_moves - 1
          else
            change(h, hold)
            ids[#ids + 1] = id
          end
        else
          -- Its head was removed by other hands: it must not hold up the lane.
          side_moves = side_moves - 1
          remove_ready(L, { id = id or '', tn = t.name })
        end
      end
    end
  end
end

-- Remembers what was granted, for the case that the reply is lost.
local function remember(ids)
  local keys = {}
  for n, id in ipairs(ids) do keys[n] = id .. ' ' .. head(id).ep end
  R('SET', grants_at, request .. ' ' .. nonce .. ' ' .. concat(keys, ' '), 'PX', ARGV[8])
end

local ids = replay()
if not ids then
  ids = {}
  grant(ids)
  if #ids > 0 then remember(ids) end
end
flush()

local next_due = -1
for n = 9, #ARGV, 2 do
  local L = lane(ARGV[n])
  if L.p == 0 then
    local due = L.r > 0 and now or R('ZRANGE', L.delayed, 0, 0, 'WITHSCORES')[2]
    if due then
      local wait = math.max(due - now, 0)
      next_due = next_due < 0 and wait or math.min(next_due, wait)
    end
  end
  -- Tokens that nobody took are for jobs that are gone.
  if L.r == 0 then R('DEL', T .. ':w:' .. L.name) end
end
return { next_due, jobs_of(ids) }
