-- Sorted sets. Changes are gathered and written together, as one call for a hundred members costs a tenth of a hundred calls. Whoever reads
-- a set flushes it first.
local CHUNK = 200 -- most arguments of one call, so that none is too many for Lua's stack

local sets = {}

local function gathered(key)
  local set = sets[key]
  if not set then
    set = { adds = { 'ZADD', key }, n = 2, dels = { 'ZREM', key }, m = 2 }
    sets[key] = set
  end
  return set
end

-- What is taken out goes out first: `zset` keeps to that order.
local function zflush(key)
  local set = sets[key]
  if not set then return end
  if set.m > 2 then R(unpack(set.dels, 1, set.m)) end
  if set.n > 2 then R(unpack(set.adds, 1, set.n)) end
  set.n, set.m = 2, 2
end

-- Puts a member in with a score, as text, or with `false` takes it out.
local function zset(key, member, score)
  local set = sets[key] or gathered(key)
  if score then
    local n, adds = set.n + 2, set.adds
    adds[n - 1], adds[n], set.n = score, member, n
    if n >= CHUNK then zflush(key) end
  else
    -- It may be among those that are still to be put in.
    if set.n > 2 then zflush(key) end
    local m = set.m + 1
    set.dels[m], set.m = member, m
    if m >= CHUNK then zflush(key) end
  end
end

-- The first `count` members.
local function zfirst(key, count)
  zflush(key)
  return R('ZRANGE', key, 0, count - 1)
end

-- The first `count` members with a score up to `max`.
local function zdue(key, max, count)
  zflush(key)
  return R('ZRANGE', key, '-inf', max, 'BYSCORE', 'LIMIT', 0, count)
end

-- Calls a command with many keys, or keys and values, chunk by chunk. `CHUNK` is even, so pairs stay together.
local function in_chunks(command, args)
  local count = #args
  if count == 0 then return {} end
  if count <= CHUNK then return R(command, unpack(args)) end
  local answers = {}
  for i = 1, count, CHUNK do
    for _, one in ipairs(R(command, unpack(args, i, math.min(i + CHUNK - 1, count)))) do answers[#answers + 1] = one end
  end
  return answers
end
