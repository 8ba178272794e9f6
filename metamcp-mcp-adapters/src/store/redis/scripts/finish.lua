-- Ends leased jobs. ARGV: now, then for each job these words: job, epoch, nonce, how it ends (D done, X dead, C
-- cancelled), `-` or the job whose result it is, and with what it ends (the result's pointer, the error, the reason).
-- Answers for each `ok <state>`, `again <state>`, `stale` or `gone`.
local WORDS = '^(%S+) (%S+) (%S+) (%S) (%S+) ()'

local function ended_so(h, how, from, what)
  if h.le ~= 'F' or h.st ~= how then return false end
  if how == 'D' then return h.rs == what and h.cf == from end
  return Q.part(h, how == 'X' and 'e' or 'k') == what
end

local function finish(h, how, from, what)
  h.le = 'F'
  if h.fl ~= '-' then
    Q.clear_flag(h, 'm')
    Q.drop_part(h, 'c')
    Q.drop_part(h, 'k')
    if how == 'D' then Q.drop_part(h, 'e') end
  end
  if how == 'D' then
    h.rs, h.cf = what, from
  else
    Q.put_part(h, how == 'X' and 'e' or 'k', what)
  end
  Q.finale(h, how)
end

local answers, ids = {}, {}
for i = 2, #ARGV do ids[i - 1] = ARGV[i]:sub(1, Q.ID) end
Q.fetch(ids)
for i = 2, #ARGV do
  local id, epoch, nonce, how, from, what = ARGV[i]:match(WORDS)
  what = ARGV[i]:sub(what)
  local h = Q.head(id)
  local answer = Q.fence(h, epoch, nonce, ended_so, how, from, what)
  if not answer then
    Q.change(h, finish, how, from, what)
    answer = 'ok ' .. h.st
  end
  answers[i - 1] = answer
end
Q.flush()
return answers
