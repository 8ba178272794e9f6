-- Everything that is derived from heads. A head is in it by its state: it is taken out, changed, and put in again.
--
--   timers     live jobs by when time moves them next: the instant times 8, plus what then happens, so that within
--              an instant those of one kind come before those of the next, and then in order of id
--              behind those all the ended jobs that nobody uses: the instant when they are removed, plus ENDED
--   c:<id>     the jobs that wait for this one · unsettled  ended jobs that others may still wait for
--   held       how many leases hold each concurrency key
--   kb:<group>:<key>  jobs that are passed over for it, by place; those of one lane and bound are a group, `<lane>:<max>`
--   k:<key>    the groups of a key by the place of their first job
--   all, live, dead, o:<tenant>:<subject>   ids for lists, in order of the ids
Q.DEADLINE, Q.INPUT, Q.LEASE, Q.DUE = 0, 1, 2, 3
Q.ENDED = 2 ^ 52 -- above every timer of a live job; with an instant on top it is still exact
Q.TIMERS, Q.UNSETTLED = T .. ':timers', T .. ':unsettled'
Q.ALL, Q.LIVE, Q.DEAD = T .. ':all', T .. ':live', T .. ':dead'
Q.held, Q.held_before = {}, {}
Q.regrouped = {} -- by key: groups whose first job may be another one now

function Q.owned(h) return T .. ':o:' .. h.tn .. ':' .. (h.ow or Q.warm(h).ow) end

-- When time moves a job next, and how, as one number; nil: never by itself.
function Q.timer(h)
  local st = h.st
  if Q.FINAL[st] then
    -- What others still use is kept.
    return h.us == '0' and Q.ENDED + h.fi + h.rt
  end
  if st == 'l' then return h.un * 8 + Q.LEASE end
  local deadline = h.da ~= '-' and h.da * 8 + Q.DEADLINE
  local other = st == 'd' and h.du * 8 + Q.DUE or st == 'i' and h.un * 8 + Q.INPUT
  return deadline and other and math.min(deadline, other) or deadline or other
end

-- Puts in ready jobs that were not there before and differ in nothing but their ids; `h` is the head of one.
function Q.index_all_new(h, ids)
  Q.add_all_ready(Q.lane(h.ln), h, ids)
  local at = Q.timer(h)
  if at then Q.zset_all({ Q.TIMERS }, Q.print(at), ids, 1, #ids) end
  Q.zset_all({ Q.ALL, Q.owned(h), Q.LIVE }, '0', ids, 1, #ids)
end

-- Moves the first jobs of a tenant, without flags and users, to those that are leased; `timer` is that of their leases.
function Q.index_first_leased(L, t, first, timer)
  local last = t.at - 1
  Q.zset_all({ Q.TIMERS }, timer, t.queue, first, last)
  L.l = L.l + last - first + 1
  Q.remove_first(L, t, first)
end

-- Moves leased jobs of a lane, without flags and users, to those that have ended.
function Q.index_all_ended(lane, retain, ids)
  local L = Q.lane(lane)
  L.l = L.l - #ids
  Q.zset_all({ Q.TIMERS }, Q.print(Q.ENDED + now + retain), ids, 1, #ids)
  Q.zrem_all(Q.LIVE, ids, 1, #ids)
end

-- Writes everything that was gathered.
function Q.flush()
  for m = 1, Q.touched_n do
    local h = Q.touched[m]
    if Q.heads[h.id] == h then Q.write(Q.JOB .. h.id, Q.compose(h)) end
  end
  Q.in_chunks('MSET', Q.written)
  for key in pairs(Q.regrouped) do Q.write_groups(key) end
  for name, L in pairs(Q.lanes) do Q.write_lane(name, L) end
  for key in pairs(Q.sets) do Q.zflush(key) end
  for key, count in pairs(Q.held) do
    if count ~= Q.held_before[key] then
      if count == 0 then R('HDEL', T .. ':held', key) else R('HSET', T .. ':held', key, Q.print(count)) end
    end
  end
end

-- Jobs as they stand, for the answer, four entries for each: id, head, body unless it is large, fields of x:<id> if it
-- has some. Those that are gone are left out. One flat list: Redis takes its time over lists within lists.
function Q.jobs_of(ids)
  Q.fetch(ids)
  local told, n, keys, places, m = {}, 0, {}, {}, 0
  for _, id in ipairs(ids) do
    local h = Q.heads[id]
    if h then
      local text = type(h) == 'string' and h or h.text
      local flags = text:sub(1, 2) == '- ' and '-' or text:match('^%S+') or '-'
      told[n + 1], told[n + 2], told[n + 3], told[n + 4] = id, text, false, false
      n = n + 4
      if not flags:find('B', 1, true) then
        m = m + 1
        keys[m], places[m] = T .. ':b:' .. id, n - 1
      end
      if flags ~= '-' and flags:find('[cqnpekaw]') then told[n] = R('HGETALL', T .. ':x:' .. id) end
    end
  end
  for k, body in ipairs(Q.in_chunks('MGET', keys)) do told[places[k]] = body end
  return told
end
