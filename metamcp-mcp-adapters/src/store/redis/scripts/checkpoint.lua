-- Saves how to go on with a call. ARGV: now, the words job, epoch and nonce, the checkpoint. Answers `ok <state>`, `stale` or `gone`.
local id, epoch, nonce = match(ARGV[2], '^(%S+) (%S+) (%S+)$')
local h = head(id)
local refused = fence(h, epoch, nonce)
if refused then return refused end
change(h, function()
  put_part(h, 'c', ARGV[3])
  clear_flag(h, 'm')
  drop_part(h, 'n')
end)
flush()
return 'ok ' .. h.st
