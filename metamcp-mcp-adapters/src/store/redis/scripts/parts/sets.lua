-- What follows is made anew for each call. Functions and state are fields of one table, as a function costs the more to
-- make the more names it takes from around it. Commands get text only: Redis prints numbers of Lua slowly.
local Q = {
  CHUNK = 200, -- most arguments of one command, so that none is too many for Lua's stack
  printed = {}, -- whole numbers as text
  sets = {}, -- changes of sorted sets that are still to be written
}

-- A whole number as text. One call writes few different numbers many times, and to print one costs more than to find
-- it.
function Q.print(number)
  local text = Q.printed[number]
  if not text then
    text = string.format('%d', number)
    Q.printed[number] = text
  end
  return text
end
local NOW = Q.print(now)

-- Sorted sets. Changes are gathered and written together, as one command for a hundred members costs a tenth of a
-- hundred commands. Whoever reads a set flushes it first. What is taken out goes out first: `zset` keeps to that order.
function Q.zflush(key)
  local set = Q.sets[key]
  if not set then return end
  if set.m > 2 then R(unpack(set.dels, 1, set.m)) end
  if set.n > 2 then R(unpack(set.adds, 1, set.n)) end
  set.n, set.m = 2, 2
end

-- Puts a member in with a score, as text, or with `false` takes it out.
function Q.zset(key, member, score)
  local set = Q.sets[key]
  if not set then
    set = { adds = { 'ZADD', key }, n = 2, dels = { 'ZREM', key }, m = 2 }
    Q.sets[key] = set
  end
  if score then
    local n, adds = set.n + 2, set.adds
    adds[n - 1], adds[n], set.n = score, member, n
    if n >= Q.CHUNK then Q.zflush(key) end
  else
    -- It may be among those that are still to be put in.
    if set.n > 2 then Q.zflush(key) end
    local m = set.m + 1
    set.dels[m], set.m = member, m
    if m >= Q.CHUNK then Q.zflush(key) end
  end
end

-- Puts the ids from `first` to `last` of a list into some sets, all with one score.
function Q.zset_all(keys, score, ids, first, last)
  for _, key in ipairs(keys) do Q.zflush(key) end
  for from = first, last, Q.CHUNK / 2 do
    local args, m = { 'ZADD', '' }, 2
    for n = from, math.min(from + Q.CHUNK / 2 - 1, last) do
      m = m + 2
      args[m - 1], args[m] = score, ids[n]
    end
    for _, key in ipairs(keys) do
      args[2] = key
      R(unpack(args, 1, m))
    end
  end
end

-- Takes the ids from `first` to `last` of a list out of a set.
function Q.zrem_all(key, ids, first, last)
  Q.zflush(key)
  for from = first, last, Q.CHUNK do R('ZREM', key, unpack(ids, from, math.min(from + Q.CHUNK - 1, last))) end
end

-- The first `count` members.
function Q.zfirst(key, count)
  Q.zflush(key)
  return R('ZRANGE', key, '0', Q.print(count - 1))
end

-- The score of the first member; nil: there is none.
function Q.zfirst_score(key)
  Q.zflush(key)
  return R('ZRANGE', key, '0', '0', 'WITHSCORES')[2]
end

-- The first `count` members with a score up to `max`, and not below `min` if that is given.
function Q.zdue(key, max, count, min)
  Q.zflush(key)
  return R('ZRANGE', key, min and Q.print(min) or '-inf', Q.print(max), 'BYSCORE', 'LIMIT', '0', Q.print(count))
end

-- Calls a command with many keys, or keys and values, chunk by chunk. CHUNK is even, so pairs stay together.
function Q.in_chunks(command, args)
  local count = #args
  if count == 0 then return {} end
  if count <= Q.CHUNK then return R(command, unpack(args)) end
  local answers = {}
  for i = 1, count, Q.CHUNK do
    for _, one in ipairs(R(command, unpack(args, i, math.min(i + Q.CHUNK - 1, count)))) do answers[#answers + 1] = one end
  end
  return answers
end
