-- Extends leases. ARGV: now, by how long, then for each lease these words: job, epoch, nonce, and progress, if that is news. Answers for each
-- `ok`, `lost`, or `cancel` and why.
local lease_until = print_number(now + ARGV[2])
local answers, ids = {}, {}
for i = 3, #ARGV do ids[i - 2] = match(ARGV[i], '^%S+') end
fetch(ids)
for i = 3, #ARGV do
  local id, epoch, nonce, progress = match(ARGV[i], '^(%S+) (%S+) (%S+) (.*)$')
  local h, answer = head(id), 'lost'
  if holds(h, epoch, nonce) then
    touch(h)
    h.un = lease_until
    zset(TIMERS, id, print_number(timer(h)))
    if progress ~= '' then put_part(h, 'p', progress) end
    answer = has(h, 'k') and 'cancel ' .. part(h, 'k') or 'ok'
  end
  answers[i - 2] = answer
end
flush()
return answers
