-- One head in the indexes, whatever it is like.

-- The concurrency key of a job, and how many leases may hold it.
function Q.limit(h)
  local max, key = Q.warm(h).cc:match('^(%d+):(.+)$')
  return key, tonumber(max)
end

function Q.group_at(key, group) return T .. ':kb:' .. group .. ':' .. key end

-- Puts a job that is passed over into its group, or with `false` takes it out.
function Q.pass_over(h, on)
  local key, max = Q.limit(h)
  local group = h.ln .. ':' .. Q.print(max)
  Q.zset(Q.group_at(key, group), h.id, on and Q.place(h))
  Q.regrouped[key] = Q.regrouped[key] or {}
  Q.regrouped[key][group] = true
end

-- Writes which groups a key has now.
function Q.write_groups(key)
  for group in pairs(Q.regrouped[key] or {}) do
    Q.zset(T .. ':k:' .. key, group, Q.zfirst_score(Q.group_at(key, group)) or false)
  end
  Q.regrouped[key] = nil
end

function Q.holders(key)
  if not Q.held[key] then
    Q.held_before[key] = tonumber(R('HGET', T .. ':held', key) or 0)
    Q.held[key] = Q.held_before[key]
  end
  return Q.held[key]
end

-- Puts a head in, or with `false` takes it out. `h.wo` is the list of the jobs it waits for, in state waiting.
function Q.index(h, on)
  local st, id, L, zset = h.st, h.id, Q.lane(h.ln), Q.zset
  local one = on and 1 or -1
  if on then
    -- Its timer takes the place of the one before.
    local at = Q.timer(h)
    if at then zset(Q.TIMERS, id, Q.print(at)) elseif h.timed then zset(Q.TIMERS, id, false) end
  else
    h.timed = true
  end
  if st == 'r' then
    if on then Q.add_ready(L, h) else Q.remove_ready(L, id, h.tn, h.du) end
    return
  elseif st == 'D' or st == 'C' then
    return
  end
  L[st] = L[st] + one
  if st == 'l' then
    if Q.has(h, 'L') then
      local key = Q.limit(h)
      Q.held[key] = Q.holders(key) + one
    end
  elseif st == 'd' then
    zset(L.delayed, id, on and h.du)
    if on then L.soonest = math.min(L.soonest or math.huge, h.du) end
  elseif st == 'b' then
    Q.pass_over(h, on)
  elseif st == 'w' then
    for parent in h.wo:gmatch('%S+') do zset(T .. ':c:' .. parent, id, on and '0') end
  end
end

-- Puts a head in that was not there before.
function Q.insert(h)
  Q.heads[h.id] = h
  Q.touch(h)
  Q.index_new(h)
end

function Q.index_new(h)
  local zset = Q.zset
  Q.index(h, true)
  zset(Q.ALL, h.id, '0')
  zset(Q.owned(h), h.id, '0')
  if not Q.FINAL[h.st] then zset(Q.LIVE, h.id, '0') end
  if h.st == 'X' then zset(Q.DEAD, h.id, '0') end
end

-- Takes a head out that is to be changed.
function Q.take_out(h)
  if h.st == 'w' then h.wo = h.wo or Q.part(h, 'w') end
  Q.touch(h)
  Q.index(h, false)
end
