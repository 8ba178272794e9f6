-- Dead → ready, or waiting. ARGV: now, job. Answers `ok`, `not_dead <state>`, `missing <id>` or `gone`.
local h = Q.head(ARGV[2])
if not h then return 'gone' end
if h.st ~= 'X' then return 'not_dead ' .. h.st end
local parents = Q.part(h, 'a') or ''
Q.fetch_all(parents)
for id in parents:gmatch('%S+') do
  if not Q.head(id) then return 'missing ' .. id end
end
local left = Q.undone(parents)
Q.change(h, function()
  Q.warm(h)
  h.at, h.lo, h.ca, h.fi = '0', '0', '0', '-'
  Q.clear_flag(h, 'm')
  Q.drop_part(h, 'c')
  -- The end is undone: its holder saying it again is stale, even if the job comes to end in just that way.
  if h.le == 'F' then h.le = '-' end
  if h.dl ~= '-' then h.da = Q.print(now + h.dl) end
  Q.requeue(h, 0)
  Q.wait_on(h, left)
end)
Q.keep_parents(parents)
Q.flush()
return 'ok'
