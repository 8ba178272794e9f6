-- One record. ARGV: now, kind, name. Answers version and value, or nothing.
local version, value = standing(ARGV[2], ARGV[3])
return version and { version, value }
