-- How long until a job of these lanes may be leased: 0 when one may be now, -1 when none waits that time alone would bring. ARGV: now, lanes.
local least = -1
for n = 2, #ARGV do
  local L = lane(ARGV[n])
  local due = L.p == 0 and (L.r > 0 and now or R('ZRANGE', L.delayed, 0, 0, 'WITHSCORES')[2])
  if due then
    local wait = math.max(due - now, 0)
    least = least < 0 and wait or math.min(least, wait)
  end
end
return least
