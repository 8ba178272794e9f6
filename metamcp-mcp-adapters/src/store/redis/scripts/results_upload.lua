-- Takes the next part of a body that is too large for one script. ARGV: now, the end of its key, the part, and with the
-- first one how long in seconds the parts stay that nobody claims. It is a script so that a result is taken while memory
-- is short, as the end of its job is.
local key = T .. ':upload:' .. ARGV[2]
if ARGV[4] then R('SET', key, ARGV[3], 'EX', ARGV[4]) else R('APPEND', key, ARGV[3]) end
