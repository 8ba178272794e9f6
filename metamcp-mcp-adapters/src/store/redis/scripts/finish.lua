-- Ends leased jobs. ARGV: now, then for each job four: its id, epoch and nonce of its lease, how it ends (D done, X dead,
-- C cancelled), and with what: result and `-` or the job whose result it is, the error, or the reason. Answers for each
-- `ok <state>`, `again <state>`, `stale` or `gone`.

-- What the words of a plain head say of a lease that has ended now.
local ENDED_NOW = ' - - F ' .. NOW .. ' ' .. NOW .. ' '

local function ended_so(h, how, what)
  if h.le ~= 'F' or h.st ~= how then return false end
  if how == 'D' then return h.rs .. ' ' .. h.cf == what end
  return Q.part(h, how == 'X' and 'e' or 'k') == what
end

local function finish(h, how, what)
  h.le = 'F'
  if h.fl ~= '-' then
    Q.clear_flag(h, 'm')
    Q.drop_part(h, 'c')
    Q.drop_part(h, 'k')
    if how == 'D' then Q.drop_part(h, 'e') end
  end
  if how == 'D' then
    h.rs, h.cf = what:match('^(%S+) (%S+)$')
  else
    Q.put_part(h, how == 'X' and 'e' or 'k', what)
  end
  Q.finale(h, how)
end

-- Plain jobs of one lane and retention that have ended and are not in the indexes so yet.
local gathered = { ids = {} }

local function index_gathered()
  if #gathered.ids > 0 then Q.index_all_ended(gathered.lane, gathered.retain, gathered.ids) end
  gathered.ids = {}
end

-- Ends a plain job well, as `finish` would: most end so, and only what changes is touched. Answers whether it did.
local function finish_plain(id, lease, result)
  local text = Q.heads[id]
  if type(text) ~= 'string' then return false end
  local held = '- 0 l ' .. lease .. ' '
  if text:find(held, 1, true) ~= 1 then return false end
  -- Finding costs less than matching word by word: of a sound head no three words in a row are empty before those three
  -- that are so as long as it is leased. What is found elsewhere, or not at all, is none of these.
  local started = text:match('^%S+', #held + 1) or ''
  local _, before = text:find(' - - - ', #held + #started, true)
  local lane, retain = text:match('^%d+ (%S+) (%d+) ', (before or #text) + 1)
  if not lane then return false end
  Q.rewrite(id, '- 0 D ' .. lease .. ' ' .. started .. ENDED_NOW .. result .. ' ' .. text:sub(before + 1))
  if lane ~= gathered.lane or retain ~= gathered.retain then
    index_gathered()
    gathered.lane, gathered.retain = lane, retain
  end
  gathered.ids[#gathered.ids + 1] = id
  return true
end

local function answer(id, lease, how, what)
  if how == 'D' and finish_plain(id, lease, what) then return 'ok D' end
  -- It may concern one of those that were gathered.
  index_gathered()
  local h = Q.head(id)
  local epoch, nonce = lease:match('^(%S+) (%S+)$')
  local refused = Q.fence(h, epoch, nonce, ended_so, how, what)
  if refused then return refused end
  Q.change(h, finish, how, what)
  return 'ok ' .. h.st
end

local answers, ids, n = {}, {}, 0
for i = 2, #ARGV, 4 do
  n = n + 1
  ids[n] = ARGV[i]
end
Q.fetch(ids)
for m = 1, n do
  local i = 4 * m - 2
  answers[m] = answer(ids[m], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
end
index_gathered()
Q.flush()
return answers
