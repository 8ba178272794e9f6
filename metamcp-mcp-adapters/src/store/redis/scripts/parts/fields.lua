-- One head by its fields, its flags, and what few jobs have beside it.
Q.COLD = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$'
Q.ID = 36 -- characters of an id

function Q.head(id)
  if Q.heads[id] == nil then Q.fetch({ id }) end
  local h = Q.heads[id]
  if type(h) == 'string' then
    h = Q.parse(id, h)
    Q.heads[id] = h
  end
  return h
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
    h.fl, h.us, h.st, h.ep, h.no, h.sa, h.wk, h.un, h.le, h.up,
    h.fi, h.rs, h.cf, h.du, h.ln, h.rt, h.tn, h.pr, h.da, h.cr, cold,
  }, ' ')
  return h.text
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

-- Whether this is the newest lease of the job, and still held.
function Q.holds(h, epoch, nonce) return h and h.st == 'l' and h.no == nonce and h.ep == epoch end
