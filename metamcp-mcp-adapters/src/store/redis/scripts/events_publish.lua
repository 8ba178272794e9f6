-- Takes events. ARGV: now, how many are kept, how many there are, the events as JSON. Answers the cursor of the last
-- one. All of one call are one entry of the stream, named `cursor of the last-how many`: an entry goes as a whole, once
-- all its events are over.
local kept, count = tonumber(ARGV[2]), tonumber(ARGV[3])
local last = R('INCRBY', T .. ':cursor', count)
R('XADD', T .. ':events', last .. '-' .. count, 'at', string.format('%d', now), 'events', ARGV[4])
if last > kept then R('XTRIM', T .. ':events', 'MINID', last - kept + 1) end
return last
