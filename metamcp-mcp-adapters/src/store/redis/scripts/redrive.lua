-- Dead → ready, or waiting. ARGV: now, job. Answers `ok`, `not_dead <state>`, `missing <id>` or `gone`.
local h = head(ARGV[2])
if not h then return 'gone' end
if h.st ~= 'X' then return 'not_dead ' .. h.st end
local parents = part(h, 'a') or ''
for id in gmatch(parents, '%S+') do
  if not head(id) then return 'missing ' .. id end
end
local left = undone(parents)
change(h, function()
  warm(h)
  h.at, h.lo, h.ca, h.fi = '0', '0', '0', '-'
  clear_flag(h, 'm')
  drop_part(h, 'c')
  -- The end is undone: its holder saying it again is stale, even if the job comes to end in just that way.
  if h.le == 'F' then h.le = '-' end
  if h.dl ~= '-' then h.da = print_number(now + h.dl) end
  requeue(h, 0)
  wait_on(h, left)
end)
keep_parents(parents)
flush()
return 'ok'
