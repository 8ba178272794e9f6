-- How long until a job of these lanes may be leased: 0 when one may be now, -1 when none waits that time alone would
-- bring. ARGV: now, lanes.
local least = -1
for n = 2, #ARGV do
  local wait = Q.wait_of(Q.lane(ARGV[n]))
  if wait and (least < 0 or wait < least) then least = wait end
end
return least
