-- Marks the namespace with the version of its form, if it has none. ARGV: now, the version. Answers the one it has.
if R('SET', T .. ':format', ARGV[2], 'NX') then return ARGV[2] end
return R('GET', T .. ':format')
