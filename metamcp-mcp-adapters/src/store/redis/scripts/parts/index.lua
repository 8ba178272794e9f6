-- Everything that is derived from heads. A head is in it by its state: it is taken out, changed, and put in again.
--
--   timers     live jobs by when time moves them next: the instant times 8, plus what then happens, so that within an instant those of one
--              kind come before those of the next, and then in order of id
--   removals   ended jobs that nobody uses, by when they are removed
--   c:<id>     the jobs that wait for this one · unsettled  ended jobs that others may still wait for
--   held       how many leases hold each concurrency key · k:<key> the jobs that are passed over for it, by place
--   all, live, dead, o:<tenant>:<subject>   ids for lists, in order of the ids
local DEADLINE, INPUT, LEASE, DUE = 0, 1, 2, 3
local TIMERS, REMOVALS, UNSETTLED = T .. ':timers', T .. ':removals', T .. ':unsettled'
local ALL, LIVE, DEAD = T .. ':all', T .. ':live', T .. ':dead'

local held, held_before = {}, {}

local function limit(h)
  local max, key = match(warm(h).cc, '^(%d+):(.+)$')
  return key, tonumber(max)
end

local function holders(key)
  if not held[key] then
    held_before[key] = tonumber(R('HGET', T .. ':held', key) or 0)
    held[key] = held_before[key]
  end
  return held[key]
end

local function owned(h) return T .. ':o:' .. h.tn .. ':' .. (h.ow or warm(h).ow) end

-- When time moves a live job next, and how, as one number; nil: never by itself.
local function timer(h)
  local st = h.st
  if st == 'l' then return h.un * 8 + LEASE end
  local deadline = h.da ~= '-' and h.da * 8 + DEADLINE
  local other = st == 'd' and h.du * 8 + DUE or st == 'i' and h.un * 8 + INPUT
  return deadline and other and math.min(deadline, other) or deadline or other
end

-- Puts a head in, or with `false` takes it out. `h.wo` is the list of the jobs it waits for, in state waiting.
local function index(h, on)
  local st, id, L = h.st, h.id, lane(h.ln)
  local one = on and 1 or -1
  if FINAL[h.st] then
    if st == 'X' then L.X = L.X + one end
    -- What others still use is kept.
    if h.us + 0 == 0 then zset(REMOVALS, id, on and print_number(h.fi + h.rt)) end
    if on and h.timed then zset(TIMERS, id, false) end
    return
  end
  if on then
    -- Its timer takes the place of the one before.
    local at = timer(h)
    if at then zset(TIMERS, id, print_number(at)) elseif h.timed then zset(TIMERS, id, false) end
  else
    h.timed = true
  end
  if st == 'r' then
    if on then add_ready(L, h) else remove_ready(L, h) end
    return
  end
  L[st] = L[st] + one
  if st == 'l' then
    if has(h, 'L') then
      local key = limit(h)
      held[key] = holders(key) + one
    end
  elseif st == 'd' then
    zset(L.delayed, id, on and h.du)
  elseif st == 'b' then
    zset(T .. ':k:' .. limit(h), id, on and place(h))
  elseif st == 'w' then
    for parent in gmatch(h.wo, '%S+') do zset(T .. ':c:' .. parent, id, on and '0') end
  end
end

-- Puts a head in that was not there before.
local function insert(h)
  heads[h.id] = h
  touch(h)
  index(h, true)
  zset(ALL, h.id, '0')
  zset(owned(h), h.id, '0')
  if not FINAL[h.st] then zset(LIVE, h.id, '0') end
  if h.st == 'X' then zset(DEAD, h.id, '0') end
end

-- Changes nothing but what is derived from it.
local function take_out(h)
  if h.st == 'w' then h.wo = h.wo or part(h, 'w') end
  touch(h)
  index(h, false)
end

-- Writes everything that was gathered.
local function flush()
  local written, n = {}, 0
  for m = 1, touched_n do
    local h = touched[m]
    if heads[h.id] == h then
      written[n + 1], written[n + 2] = T .. ':j:' .. h.id, compose(h)
      n = n + 2
    end
  end
  in_chunks('MSET', written)
  write_lanes()
  for key in pairs(sets) do zflush(key) end
  for key, count in pairs(held) do
    if count ~= held_before[key] then
      if count == 0 then R('HDEL', T .. ':held', key) else R('HSET', T .. ':held', key, count) end
    end
  end
end

-- Jobs as they stand, for the answer: id, head, body unless it is large, fields of x:<id>. Those that are gone are left out.
local function jobs_of(ids)
  fetch(ids)
  local told, n, keys, small, m = {}, 0, {}, {}, 0
  for _, id in ipairs(ids) do
    local h = heads[id]
    if h then
      local parts = h.fl ~= '-' and find(h.fl, '[cqnpekaw]') and R('HGETALL', T .. ':x:' .. id) or {}
      n = n + 1
      told[n] = { id, h.text, false, parts }
      if not has(h, 'B') then
        m = m + 1
        keys[m], small[m] = T .. ':b:' .. id, told[n]
      end
    end
  end
  for n, body in ipairs(in_chunks('MGET', keys)) do small[n][3] = body end
  return told
end
