-- Removes a record. ARGV: now, kind, name. Answers whether it was there.
local stood = standing(ARGV[2], ARGV[3])
remove(ARGV[2], ARGV[3])
return stood and 1 or 0
