-- What follows from a move: a concurrency key that is let go, parents that are no longer used, and jobs that waited for
-- this one.
Q.SETTLE_AT_ONCE_MAX = 32 -- most waiting jobs that the end of the job they wait for moves by itself
Q.LET_GO_MAX = 32 -- most jobs that one lease lets go on by its end

-- Lets the first jobs that are passed over for this key go on, one of each group.
function Q.let_go(key)
  Q.write_groups(key)
  local ids = {}
  for n, group in ipairs(Q.zfirst(T .. ':k:' .. key, Q.LET_GO_MAX)) do ids[n] = Q.zfirst(Q.group_at(key, group), 1)[1] end
  Q.fetch(ids)
  for _, id in ipairs(ids) do
    if Q.head(id) then Q.change(Q.head(id), Q.unblock) end
  end
end

-- Whether a job that stood so lets others of its concurrency key go on: its lease has ended, or it asks for the key no
-- more. A job that is only passed over did not let go of anything.
function Q.lets_go(was, st) return was == 'l' and st ~= 'l' or was == 'r' and st ~= 'r' and st ~= 'b' and st ~= 'l' end

function Q.count_user(id, by)
  local parent = Q.head(id)
  if parent then
    Q.take_out(parent)
    parent.us = Q.print(math.max(parent.us + by, 0))
    Q.index(parent, true)
  end
end

function Q.ended(h)
  if Q.has(h, 'a') then
    local parents = Q.part(h, 'a')
    Q.fetch_all(parents)
    for parent in parents:gmatch('%S+') do Q.count_user(parent, -1) end
  end
  -- Those that wait for it are among its users.
  if h.us == '0' then return end
  local children = Q.zfirst(T .. ':c:' .. h.id, Q.SETTLE_AT_ONCE_MAX)
  if #children == 0 then return end
  Q.zset(Q.UNSETTLED, h.id, '0')
  -- Those that fail with it are left to maintenance, as is who waits behind the first.
  if h.st ~= 'D' then return end
  Q.fetch(children)
  for _, child in ipairs(children) do
    if Q.head(child) then Q.change(Q.head(child), Q.settle, h) end
  end
end

-- Changes a head by `edit`, with its further arguments, and everything that depends on it.
function Q.change(h, edit, ...)
  local was, had_ended, was_dead = h.st, Q.FINAL[h.st], h.st == 'X'
  Q.take_out(h)
  edit(h, ...)
  h.up = NOW
  Q.index(h, true)
  local has_ended = Q.FINAL[h.st]
  if has_ended ~= had_ended then Q.zset(Q.LIVE, h.id, had_ended and '0') end
  if was_dead ~= (h.st == 'X') then Q.zset(Q.DEAD, h.id, not was_dead and '0') end
  if Q.lets_go(was, h.st) and Q.has(h, 'L') then Q.let_go((Q.limit(h))) end
  if has_ended and not had_ended then Q.ended(h) end
end

-- Keeps the parents of a new or redriven job until that job ends.
function Q.keep_parents(parents)
  for id in parents:gmatch('%S+') do
    Q.count_user(id, 1)
    local h = Q.head(id)
    if h and Q.FINAL[h.st] then Q.zset(Q.UNSETTLED, id, '0') end
  end
end

-- Those of the parents that are not done.
function Q.undone(parents)
  local left = {}
  for id in parents:gmatch('%S+') do
    if not Q.head(id) or Q.head(id).st ~= 'D' then left[#left + 1] = id end
  end
  return table.concat(left, ' ')
end

-- Lets only the held newest lease through. Else answers why not; `again` says whether the last lease ended just so.
function Q.fence(h, epoch, nonce, again, ...)
  if not h then return 'gone' end
  if h.ep ~= epoch or h.no ~= nonce then return 'stale' end
  if h.st == 'l' then return nil end
  return h.ep ~= '0' and again and again(h, ...) and 'again ' .. h.st or 'stale'
end
