-- Gives leased jobs back. ARGV: now, then for each three: the words job, epoch, nonce, how the lease ends (f failed, r
-- released or moved, p parked) and a span; and two more: candidate and error, or whether the call may have happened and
-- nothing, or for a move nothing and the candidate, or checkpoint and questions. The span is a delay, or how long to wait
-- for an answer. Answers for each `ok <state>`, `again <state>`, `stale` or `gone`.
local WORDS = '^(%S+) (%S+) (%S+) (%S) (%S+)$'

local function nacked_so(h, how) return h.le == how end

local function go_to(h, candidate)
  if Q.warm(h).ca ~= candidate then
    h.ca = candidate
    Q.drop_part(h, 'c')
    Q.drop_part(h, 'n')
  end
end

local function fail(h, delay, candidate, error)
  h.at = Q.print(Q.warm(h).at + 1)
  Q.put_part(h, 'e', error)
  Q.clear_flag(h, 'd')
  go_to(h, candidate)
  Q.drop_part(h, 'p')
  if h.at + 0 >= h.am + 0 then Q.finale(h, 'X') else Q.requeue(h, delay) end
end

local function release(h, delay, maybe_called, candidate)
  if candidate ~= '' then
    go_to(h, candidate)
  elseif maybe_called == '1' then
    Q.set_flag(h, 'm')
  else
    Q.clear_flag(h, 'm')
  end
  Q.requeue(h, delay)
end

local function park(h, ttl, checkpoint, questions)
  Q.clear_flag(h, 'm')
  Q.put_part(h, 'c', checkpoint)
  Q.drop_part(h, 'n')
  Q.requeue(h, 0)
  h.st, h.un = 'i', Q.print(now + ttl)
  if questions ~= '' then Q.put_part(h, 'q', questions) end
end

local function nack(h, how, span, one, two)
  h.le = how
  if Q.has(h, 'k') then
    -- A wish to cancel wins.
    Q.clear_flag(h, 'm')
    Q.finale(h, 'C')
  elseif how == 'f' then
    fail(h, span, one, two)
  elseif how == 'r' then
    release(h, span, one, two)
  else
    park(h, span, one, two)
  end
end

local answers, ids = {}, {}
for i = 2, #ARGV, 3 do ids[#ids + 1] = ARGV[i]:sub(1, Q.ID) end
Q.fetch(ids)
for i = 2, #ARGV, 3 do
  local id, epoch, nonce, how, span = ARGV[i]:match(WORDS)
  local h = Q.head(id)
  local answer = Q.fence(h, epoch, nonce, nacked_so, how)
  if not answer then
    Q.change(h, nack, how, tonumber(span), ARGV[i + 1], ARGV[i + 2])
    answer = 'ok ' .. h.st
  end
  answers[#answers + 1] = answer
end
Q.flush()
return answers
