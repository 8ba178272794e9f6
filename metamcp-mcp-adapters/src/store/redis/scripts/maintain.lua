-- Does what is due, the longest due first, and removals after everything else. ARGV: now, most moves, shortest and
-- longest backoff of a lost lease that is not the first. Answers whether there may be more to do, and for each move its
-- kind and what it concerns: `promoted`, `reclaimed <id> <state>`, `expired <id>`, `settled <id> <state>`, `removed <id>
-- <result>`.
local moves_max, backoff, backoff_max = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local looks = moves_max -- at parents that nobody waits for any more; they cost no move
local told = {}

-- The next job to be moved because a job that it waits for has ended, with that job.
local function next_unsettled()
  while looks > 0 do
    local parent = Q.zfirst(Q.UNSETTLED, 1)[1]
    if not parent then return nil end
    local h = Q.head(parent)
    local child = h and Q.FINAL[h.st] and Q.zfirst(T .. ':c:' .. parent, 1)[1]
    if child then return h, child end
    Q.zset(Q.UNSETTLED, parent, false)
    looks = looks - 1
  end
end

local function tell(...) told[#told + 1] = table.concat({ ... }, ' ') end

local function settle_one(parent, child)
  local h = Q.head(child)
  if not h then return Q.zset(T .. ':c:' .. parent.id, child, false) end
  Q.change(h, Q.settle, parent)
  tell('settled', child, h.st)
end

-- Takes a lease back that ran out; the first costs no backoff, then it doubles with each one lost before.
local function reclaim(h)
  local lost = tonumber(Q.warm(h).lo)
  local delay = lost == 0 and 0 or math.min(backoff * 2 ^ (lost - 1), backoff_max)
  h.lo, h.le = Q.print(h.lo + 1), 'l'
  Q.set_flag(h, 'm')
  Q.clear_flag(h, 'd')
  if Q.has(h, 'k') then
    Q.finale(h, 'C')
  elseif h.lo + 0 >= h.lm + 0 then
    Q.die(h, 'lost', h.lo .. ' leases ran out without word of their worker')
  else
    Q.requeue(h, delay)
  end
end

local function run_timer(id, at)
  local h = Q.head(id)
  if not h then return Q.zset(Q.TIMERS, id, false) end
  local kind = at % 8
  if kind == Q.DEADLINE or kind == Q.INPUT then
    Q.change(h, Q.expire, kind == Q.DEADLINE and 'deadline_exceeded' or 'input_expired')
    tell('expired', id)
  elseif kind == Q.LEASE then
    Q.change(h, reclaim)
    tell('reclaimed', id, h.st)
  else
    Q.change(h, Q.promote)
    tell('promoted')
  end
end

local function remove(id)
  local h = Q.head(id)
  Q.zset(Q.TIMERS, id, false)
  if not h then return end
  Q.take_out(h)
  Q.zset(Q.ALL, id, false)
  Q.zset(Q.owned(h), id, false)
  if h.st == 'X' then Q.zset(Q.DEAD, id, false) end
  R('DEL', T .. ':j:' .. id, T .. ':b:' .. id, T .. ':x:' .. id)
  local key = T .. ':i:' .. h.tn .. ':' .. Q.warm(h).ik
  if h.ik ~= '-' and R('GET', key) == id then R('DEL', key) end
  Q.heads[id] = false
  tell('removed', id, h.rs)
end

local more = 1
for _ = 1, moves_max do
  local parent, child = next_unsettled()
  if child then
    settle_one(parent, child)
  elseif looks == 0 then
    break
  else
    Q.zflush(Q.TIMERS)
    local id, at = unpack(R('ZRANGE', Q.TIMERS, '0', '0', 'WITHSCORES'))
    local is_due = id and tonumber(at) < (now + 1) * 8
    local ended_id = not is_due and Q.zdue(Q.TIMERS, Q.ENDED + now, 1, Q.ENDED)[1]
    if is_due then
      run_timer(id, at)
    elseif ended_id then
      remove(ended_id)
    else
      more = 0
      break
    end
  end
end
Q.flush()
return { more, told }
