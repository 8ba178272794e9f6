-- Brings an owner's answer. ARGV: now, job, answer. Answers `ok`, `not_waiting <state>` or `gone`.
local h = head(ARGV[2])
if not h then return 'gone' end
if h.st == 'i' then
  change(h, function()
    put_part(h, 'n', ARGV[3])
    requeue(h, 0)
  end)
  flush()
  return 'ok'
end
-- The same answer again, before the next call is over, is well too.
if not FINAL[h.st] and part(h, 'n') == ARGV[3] then return 'ok' end
return 'not_waiting ' .. h.st
