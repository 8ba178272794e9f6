-- Ends a job that nobody holds, flags one that somebody does. ARGV: now, job, reason. Answers `now`, `asked`, `already
-- <state>` or `gone`.
local h = Q.head(ARGV[2])
if not h then return 'gone' end
if Q.FINAL[h.st] then return 'already ' .. h.st end
local leased = h.st == 'l'
-- The first reason stays.
if leased and Q.has(h, 'k') then return 'asked' end
Q.change(h, function()
  Q.put_part(h, 'k', ARGV[3])
  if not leased then Q.finale(h, 'C') end
end)
Q.flush()
return leased and 'asked' or 'now'
