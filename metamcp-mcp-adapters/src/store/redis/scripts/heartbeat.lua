-- Extends leases. ARGV: now, by how long, then for each lease these words: job, epoch, nonce, and progress, if that is
-- news. Answers for each `ok`, `lost`, or `cancel` and why.
local lease_until = Q.print(now + ARGV[2])
local answers, ids = {}, {}
for i = 3, #ARGV do ids[i - 2] = ARGV[i]:sub(1, Q.ID) end
Q.fetch(ids)
for i = 3, #ARGV do
  local id, epoch, nonce, progress = ARGV[i]:match('^(%S+) (%S+) (%S+) (.*)$')
  local h, answer = Q.head(id), 'lost'
  if Q.holds(h, epoch, nonce) then
    Q.touch(h)
    h.un = lease_until
    Q.zset(Q.TIMERS, id, Q.print(Q.timer(h)))
    if progress ~= '' then Q.put_part(h, 'p', progress) end
    answer = Q.has(h, 'k') and 'cancel ' .. Q.part(h, 'k') or 'ok'
  end
  answers[i - 2] = answer
end
Q.flush()
return answers
