-- Does what is due, the longest due first, and removals after everything else. ARGV: now, most moves, shortest and longest backoff of a lost
-- lease. Answers whether there may be more to do, and for each move its kind and what it concerns: `promoted`, `reclaimed <id> <state>`,
-- `expired <id>`, `settled <id> <state>`, `removed <id> <result>`.
local moves_max, backoff, backoff_max = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local looks = moves_max -- at parents that nobody waits for any more; they cost no move
local told = {}

-- The next job to be moved because a job that it waits for has ended, with that job.
local function next_unsettled()
  while looks > 0 do
    local parent = zfirst(UNSETTLED, 1)[1]
    if not parent then return nil end
    local h = head(parent)
    local child = h and FINAL[h.st] and zfirst(T .. ':c:' .. parent, 1)[1]
    if child then return h, child end
    zset(UNSETTLED, parent, false)
    looks = looks - 1
  end
end

local function tell(...) told[#told + 1] = concat({ ... }, ' ') end

local function settle_one(parent, child)
  local h = head(child)
  if not h then return zset(T .. ':c:' .. parent.id, child, false) end
  change(h, settle, parent)
  tell('settled', child, h.st)
end

local function run_timer(id, at)
  local h = head(id)
  if not h then return zset(TIMERS, id, false) end
  local kind = at % 8
  if kind == DEADLINE or kind == INPUT then
    change(h, expire, kind == DEADLINE and 'deadline_exceeded' or 'input_expired')
    tell('expired', id)
  elseif kind == LEASE then
    change(h, reclaim, backoff, backoff_max)
    tell('reclaimed', id, h.st)
  else
    change(h, promote)
    tell('promoted')
  end
end

local function remove(id)
  local h = head(id)
  if not h then return zset(REMOVALS, id, false) end
  forget(h)
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
    zflush(TIMERS)
    local id, at = unpack(R('ZRANGE', TIMERS, 0, 0, 'WITHSCORES'))
    local is_due = id and tonumber(at) < (now + 1) * 8
    local ended_id = not is_due and zdue(REMOVALS, now, 1)[1]
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
flush()
return { more, told }
