-- Brings an owner's answer. ARGV: now, job, answer. Answers `ok`, `not_waiting <state>` or `gone`.
local h = Q.head(ARGV[2])
if not h then return 'gone' end
if h.st == 'i' then
  Q.change(h, function()
    Q.put_part(h, 'n', ARGV[3])
    Q.requeue(h, 0)
  end)
  Q.flush()
  return 'ok'
end
-- The same answer again, before the next call is over, is well too.
if not Q.FINAL[h.st] and Q.part(h, 'n') == ARGV[3] then return 'ok' end
return 'not_waiting ' .. h.st
