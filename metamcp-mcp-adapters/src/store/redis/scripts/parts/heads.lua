-- Heads of jobs. Their fields are text, numbers too.
--
--   j:<id>  the head: fields apart by spaces, `-` for none; first the hot ones in the order of HOT, then those of COLD
--   b:<id>  the body, JSON; a large one comes and goes beside the scripts, as Lua looks at every byte it is given
--   x:<id>  what few jobs have, a hash: c checkpoint, q questions, n answer, p progress, e error, k why it is to be
--           cancelled, a the jobs it names as parents, w those of them that it waits for
--
--   st state: w waiting, d delayed, r ready, b ready and blocked, l leased, i input, D done, X dead, C cancelled
--   ln lane                   tn tenant                pr priority            du due
--   ep epoch                  wk worker                un until when it is leased or waits for input
--   no nonce, never a number of Lua: it has 64 bits
--   le end of the last lease: F finished, f failed, r released, p parked, l lost
--   fl flags: m maybe called, d admitted: its slot of the rate is taken for this attempt, L has a concurrency key, R has
--      a rate key, B has a large body, and one for each field of x:<id>
--   us users                  sa started               up updated             fi finished
--   da deadline               rt retention             cr created             rs result
--   cf cached from
--   ow owner's subject        dl deadline as a span    ca candidate           dg digest of the request
--   at, am attempts and their bound                    lo, lm lost leases and theirs
--   cc concurrency `max:key`  rk rate `every:burst:key`                       ik idempotency key
Q.HOT = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) ()'
Q.COLD = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$'
Q.FINAL = { D = true, X = true, C = true } -- states in which a job has ended
Q.heads = {} -- by id; false: there is none
Q.touched, Q.touched_n = {}, 0 -- those that are to be written
Q.NO_PARTS = {}
Q.ID = 36 -- characters of an id

function Q.parse(id, text)
  local st, ln, tn, pr, du, ep, no, wk, un, le, fl, us, sa, up, fi, da, rt, cr, rs, cf, cold = text:match(Q.HOT)
  -- One that cannot be read is as good as none: it must not hold up the others.
  if not st then return false end
  return {
    id = id, st = st, ln = ln, tn = tn, pr = pr, du = du, ep = ep, no = no, wk = wk, un = un, le = le, fl = fl,
    us = us, sa = sa, up = up, fi = fi, da = da, rt = rt, cr = cr, rs = rs, cf = cf, cold = text:sub(cold), text = text,
  }
end

-- Makes the cold fields be there.
function Q.warm(h)
  if h.cold then
    h.ow, h.dl, h.at, h.am, h.lo, h.lm, h.ca, h.cc, h.rk, h.ik, h.dg = h.cold:match(Q.COLD)
    h.cold = nil
  end
  return h
end

-- Writes the fields as one text.
function Q.compose(h)
  local concat = table.concat
  local cold = h.cold or concat({ h.ow, h.dl, h.at, h.am, h.lo, h.lm, h.ca, h.cc, h.rk, h.ik, h.dg }, ' ')
  h.text = concat({
    h.st, h.ln, h.tn, h.pr, h.du, h.ep, h.no, h.wk, h.un, h.le,
    h.fl, h.us, h.sa, h.up, h.fi, h.da, h.rt, h.cr, h.rs, h.cf, cold,
  }, ' ')
  return h.text
end

-- Reads the heads of many ids at once.
function Q.fetch(ids)
  local heads, keys, wanted, n = Q.heads, {}, {}, 0
  for _, id in ipairs(ids) do
    if heads[id] == nil then
      n = n + 1
      keys[n], wanted[n] = T .. ':j:' .. id, id
      heads[id] = false
    end
  end
  for m, told in ipairs(Q.in_chunks('MGET', keys)) do
    heads[wanted[m]] = told and Q.parse(wanted[m], told)
  end
end

function Q.head(id)
  if Q.heads[id] == nil then Q.fetch({ id }) end
  return Q.heads[id]
end

-- Reads the heads of the ids in a text.
function Q.fetch_all(text)
  local ids = {}
  for id in text:gmatch('%S+') do ids[#ids + 1] = id end
  Q.fetch(ids)
end

function Q.touch(h)
  if not h.touched then
    h.touched, Q.touched_n = true, Q.touched_n + 1
    Q.touched[Q.touched_n] = h
  end
end

function Q.has(h, flag) return h.fl ~= '-' and h.fl:find(flag, 1, true) end

function Q.set_flag(h, flag)
  if not Q.has(h, flag) then h.fl = (h.fl == '-' and '' or h.fl) .. flag end
end

function Q.clear_flag(h, flag)
  if Q.has(h, flag) then
    h.fl = h.fl:gsub(flag, '')
    if h.fl == '' then h.fl = '-' end
  end
end

-- A field of x:<id>; nil when it has none.
function Q.part(h, name) return Q.has(h, name) and R('HGET', T .. ':x:' .. h.id, name) or nil end

function Q.put_part(h, name, value)
  R('HSET', T .. ':x:' .. h.id, name, value)
  Q.set_flag(h, name)
end

function Q.drop_part(h, name)
  if Q.has(h, name) then
    R('HDEL', T .. ':x:' .. h.id, name)
    Q.clear_flag(h, name)
  end
end

-- Its place in its tenant's queue.
function Q.place(h) return Q.print(h.du + (9 - h.pr) * 60000) end

-- Whether this is the newest lease of the job, and still held.
function Q.holds(h, epoch, nonce) return h and h.st == 'l' and h.no == nonce and h.ep == epoch end
