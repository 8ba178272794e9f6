-- Jobs as they stand. ARGV: now, then ids. Answers those that are there.
local ids = { unpack(ARGV, 2) }
return Q.jobs_of(ids)
