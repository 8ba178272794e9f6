-- Gives leased jobs back. ARGV: now, then for each three: the words job, epoch, nonce, how the lease ends (f failed, r released, p parked) and
-- a span; and two more: candidate and error, or whether the call may have happened and nothing, or checkpoint and questions. The span is a
-- delay, or how long to wait for an answer. Answers for each `ok <state>`, `again <state>`, `stale` or `gone`.
local WORDS = '^(%S+) (%S+) (%S+) (%S) (%S+)$'

local function nacked_so(h, how) return h.le == how end

local function fail(h, delay, candidate, error)
  h.at = print_number(warm(h).at + 1)
  put_part(h, 'e', error)
  if h.ca ~= candidate then
    h.ca = candidate
    drop_part(h, 'c')
    drop_part(h, 'n')
  end
  drop_part(h, 'p')
  if h.at + 0 >= h.am + 0 then finale(h, 'X') else requeue(h, delay) end
end

local function release(h, delay, maybe_called)
  if maybe_called == '1' then set_flag(h, 'm') else clear_flag(h, 'm') end
  requeue(h, delay)
end

local function park(h, ttl, checkpoint, questions)
  clear_flag(h, 'm')
  put_part(h, 'c', checkpoint)
  drop_part(h, 'n')
  requeue(h, 0)
  h.st, h.un = 'i', print_number(now + ttl)
  if questions ~= '' then put_part(h, 'q', questions) end
end

local function nack(h, how, span, one, two)
  h.le = how
  if has(h, 'k') then
    -- A wish to cancel wins.
    clear_flag(h, 'm')
    finale(h, 'C')
  elseif how == 'f' then
    fail(h, span, one, two)
  elseif how == 'r' then
    release(h, span, one)
  else
    park(h, span, one, two)
  end
end

local answers, ids = {}, {}
for i = 2, #ARGV, 3 do ids[#ids + 1] = match(ARGV[i], '^%S+') end
fetch(ids)
for i = 2, #ARGV, 3 do
  local id, epoch, nonce, how, span = match(ARGV[i], WORDS)
  local h = head(id)
  local answer = fence(h, epoch, nonce, nacked_so, how)
  if not answer then
    change(h, nack, how, tonumber(span), ARGV[i + 1], ARGV[i + 2])
    answer = 'ok ' .. h.st
  end
  answers[#answers + 1] = answer
end
flush()
return answers
