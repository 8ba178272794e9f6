-- How many jobs of a lane stand where. ARGV: now, lane. Answers ready, blocked, waiting, delayed, leased, input, dead,
-- for how long the oldest ready job has been due, paused.
local L = Q.lane(ARGV[2])
local due = R('ZRANGE', L.due_at, '0', '0')[1]
return { L.r, L.b, L.w, L.d, L.l, L.i, L.X, due and math.max(now - due, 0) or 0, L.p }
