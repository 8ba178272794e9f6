-- The legal moves of one head, as `moves.rs` of the core has them. Nothing here looks at another job or at an index.

-- Clears what belongs to one stay in the queue, with a worker, or with its owner.
local function off_the_queue(h)
  h.wk, h.un = '-', '-'
  drop_part(h, 'q')
  clear_flag(h, 'd')
end

local function requeue(h, delay)
  off_the_queue(h)
  h.du = print_number(now + delay)
  h.st = delay > 0 and 'd' or 'r'
end

-- Makes it wait for these jobs, ids apart by spaces, if there are any.
local function wait_on(h, undone)
  h.wo = undone
  if undone == '' then
    drop_part(h, 'w')
  else
    put_part(h, 'w', undone)
    h.st = 'w'
  end
end

-- Ends a job. What went before (result, error, checkpoint) is the caller's.
local function finale(h, state)
  off_the_queue(h)
  h.st, h.fi = state, NOW
  drop_part(h, 'n')
  drop_part(h, 'p')
  drop_part(h, 'w')
end

-- Ends a job that no worker will look at again: its error is the last word on what may have happened.
local function die(h, code, message)
  if has(h, 'm') then message = message .. '; an earlier call may have happened' end
  put_part(h, 'e', code .. ' ' .. message)
  finale(h, 'X')
end

local function settle(h, parent)
  local left = {}
  for id in gmatch(h.wo, '%S+') do
    if id ~= parent.id then left[#left + 1] = id end
  end
  if parent.st ~= 'D' then
    local how = parent.st == 'C' and 'was cancelled' or 'failed'
    die(h, 'dependency_failed', 'task ' .. parent.id .. ', which this one waits for, ' .. how)
  else
    if #left == 0 then requeue(h, math.max(h.du - now, 0)) end
    wait_on(h, concat(left, ' '))
  end
end

local function promote(h) h.st = 'r' end

local function unblock(h) h.st = 'r' end

local function block(h) h.st = 'b' end

local function admit_later(h, slot)
  requeue(h, slot - now)
  set_flag(h, 'd')
end

local function expire(h, code)
  die(h, code, code == 'input_expired' and 'no answer came in time' or 'the deadline passed before a worker could end the job')
end

-- Takes a lease back that ran out; the backoff doubles with each one lost before.
local function reclaim(h, base, max)
  local delay = math.min(base * 2 ^ warm(h).lo, max)
  h.lo, h.le = print_number(h.lo + 1), 'l'
  set_flag(h, 'm')
  if has(h, 'k') then
    finale(h, 'C')
  elseif h.lo + 0 >= h.lm + 0 then
    die(h, 'lost', h.lo .. ' leases ran out without word of their worker')
  else
    requeue(h, delay)
  end
end
