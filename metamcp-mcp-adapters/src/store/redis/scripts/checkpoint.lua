-- Saves how to go on with a call. ARGV: now, the words job, epoch and nonce, the checkpoint. Answers `ok <state>`,
-- `stale` or `gone`.
local id, epoch, nonce = ARGV[2]:match('^(%S+) (%S+) (%S+)$')
local h = Q.head(id)
local refused = Q.fence(h, epoch, nonce)
if refused then return refused end
Q.change(h, function()
  Q.put_part(h, 'c', ARGV[3])
  Q.clear_flag(h, 'm')
  Q.drop_part(h, 'n')
end)
Q.flush()
return 'ok ' .. h.st
