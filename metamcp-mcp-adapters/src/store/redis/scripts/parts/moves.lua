-- The legal moves of one head, as `moves.rs` of the core has them. Nothing here looks at another job or at an index.

-- Clears what belongs to one stay in the queue, with a worker, or with its owner.
function Q.off_the_queue(h)
  h.wk, h.un = '-', '-'
  Q.drop_part(h, 'q')
end

function Q.requeue(h, delay)
  Q.off_the_queue(h)
  h.du = Q.print(now + delay)
  h.st = delay > 0 and 'd' or 'r'
end

-- Makes it wait for these jobs, ids apart by spaces, if there are any.
function Q.wait_on(h, undone)
  h.wo = undone
  if undone == '' then
    Q.drop_part(h, 'w')
  else
    Q.put_part(h, 'w', undone)
    h.st = 'w'
  end
end

-- Ends a job. What went before (result, error, checkpoint) is the caller's.
function Q.finale(h, state)
  Q.off_the_queue(h)
  h.st, h.fi = state, NOW
  if h.fl == '-' then return end
  Q.clear_flag(h, 'd')
  Q.drop_part(h, 'n')
  Q.drop_part(h, 'p')
  Q.drop_part(h, 'w')
end

-- Ends a job that no worker will look at again: its error is the last word on what may have happened.
function Q.die(h, code, message)
  if Q.has(h, 'm') then message = message .. '; an earlier call may have happened' end
  Q.put_part(h, 'e', code .. ' ' .. message)
  Q.finale(h, 'X')
end

function Q.settle(h, parent)
  local left = {}
  for id in h.wo:gmatch('%S+') do
    if id ~= parent.id then left[#left + 1] = id end
  end
  if parent.st ~= 'D' then
    local how = parent.st == 'C' and 'was cancelled' or 'failed'
    Q.die(h, 'dependency_failed', 'task ' .. parent.id .. ', which this one waits for, ' .. how)
  else
    if #left == 0 then Q.requeue(h, math.max(h.du - now, 0)) end
    Q.wait_on(h, table.concat(left, ' '))
  end
end

-- Gives a lease of it: `by` tells to which worker, with which nonce, and until when.
function Q.hold(h, by)
  h.st, h.ep, h.no, h.wk, h.un, h.le = 'l', Q.print(h.ep + 1), by.nonce, by.worker, by.lease_until, '-'
  if h.sa == '-' then h.sa = NOW end
  -- A slot is taken before the lease, and stays with the attempt however often it is given back.
  if Q.has(h, 'R') then Q.set_flag(h, 'd') end
end

function Q.promote(h) h.st = 'r' end

function Q.unblock(h) h.st = 'r' end

function Q.expire(h, code)
  local message = 'the deadline passed before a worker could end the job'
  Q.die(h, code, code == 'input_expired' and 'no answer came in time' or message)
end
