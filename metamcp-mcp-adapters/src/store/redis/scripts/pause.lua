-- Stops or resumes leasing from a lane. ARGV: now, lane, 1 or 0.
local L = Q.lane(ARGV[2])
if L.p == tonumber(ARGV[3]) then return end
L.p = tonumber(ARGV[3])
-- Whoever waits for the lane may find work when it is resumed.
L.made = L.r
Q.flush()
