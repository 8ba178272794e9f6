-- What follows from a move: a concurrency key that is let go, parents that are no longer used, and jobs that waited for this one.
local SETTLE_AT_ONCE_MAX = 32 -- most waiting jobs that the end of the job they wait for moves by itself

local change

-- Lets the first job that is passed over for this key go on.
local function unblock_first(key)
  local id = zfirst(T .. ':k:' .. key, 1)[1]
  if id and head(id) then change(head(id), unblock) end
end

local function count_user(id, by)
  local parent = head(id)
  if parent then
    take_out(parent)
    parent.us = print_number(parent.us + by)
    index(parent, true)
  end
end

local function ended(h)
  for parent in gmatch(part(h, 'a') or '', '%S+') do count_user(parent, -1) end
  -- Those that wait for it are among its users.
  if h.us + 0 == 0 then return end
  local children = zfirst(T .. ':c:' .. h.id, SETTLE_AT_ONCE_MAX)
  if #children == 0 then return end
  zset(UNSETTLED, h.id, '0')
  -- Those that fail with it are left to maintenance, as is who waits behind the first.
  if h.st ~= 'D' then return end
  for _, child in ipairs(children) do
    if head(child) then change(head(child), settle, h) end
  end
end

-- Changes a head by `edit`, with its further arguments, and everything that depends on it.
function change(h, edit, ...)
  local was_in_play, had_ended, was_dead = IN_PLAY[h.st], FINAL[h.st], h.st == 'X'
  take_out(h)
  edit(h, ...)
  h.up = NOW
  index(h, true)
  local has_ended = FINAL[h.st]
  if has_ended ~= had_ended then zset(LIVE, h.id, had_ended and '0') end
  if was_dead ~= (h.st == 'X') then zset(DEAD, h.id, not was_dead and '0') end
  -- A job that is only passed over did not let go of anything.
  if was_in_play and not IN_PLAY[h.st] and h.st ~= 'b' and has(h, 'L') then unblock_first(limit(h)) end
  if has_ended and not had_ended then ended(h) end
end

-- Keeps the parents of a new or redriven job until that job ends.
local function keep_parents(parents)
  for id in gmatch(parents, '%S+') do
    count_user(id, 1)
    if head(id) and FINAL[head(id).st] then zset(UNSETTLED, id, '0') end
  end
end

-- Those of the parents that are not done.
local function undone(parents)
  local left = {}
  for id in gmatch(parents, '%S+') do
    if not head(id) or head(id).st ~= 'D' then left[#left + 1] = id end
  end
  return concat(left, ' ')
end

-- Forgets an ended job.
local function forget(h)
  take_out(h)
  zset(ALL, h.id, false)
  zset(owned(h), h.id, false)
  if h.st == 'X' then zset(DEAD, h.id, false) end
  R('DEL', T .. ':j:' .. h.id, T .. ':b:' .. h.id, T .. ':x:' .. h.id)
  local key = T .. ':i:' .. h.tn .. ':' .. h.ik
  if h.ik ~= '-' and R('GET', key) == h.id then R('DEL', key) end
  heads[h.id] = false
end

-- Lets only the held newest lease through. Else answers why not; `again` says whether the last lease ended just so.
local function fence(h, epoch, nonce, again, ...)
  if not h then return 'gone' end
  if h.ep ~= epoch or h.no ~= nonce then return 'stale' end
  if h.st == 'l' then return nil end
  return h.ep ~= '0' and again and again(h, ...) and 'again ' .. h.st or 'stale'
end
