-- Heads of jobs. Their fields are text, numbers too.
--
--   j:<id>  the head: fields apart by spaces, `-` for none; first the hot ones in the order of HOT, then those of COLD
--   b:<id>  the body, JSON; a large one comes and goes beside the scripts, as Lua looks at every byte it is given
--   x:<id>  what few jobs have, a hash: c checkpoint, q questions, n answer, p progress, e error, k why it is to be
--           cancelled, a the jobs it names as parents, w those of them that it waits for
--
--   st state: w waiting, d delayed, r ready, b ready and blocked, l leased, i input, D done, X dead, C cancelled
--   ln lane                   tn tenant                pr priority            du due
--   ep epoch                  no nonce, never a number of Lua: it has 64 bits
--   sa started                wk worker                un until when it is leased or waits for input
--   le end of the last lease: F finished, f failed, r released, p parked, l lost
--   fl flags: m maybe called, d admitted: its slot of the rate is taken for this attempt, L has a concurrency key, R has
--      a rate key, B has a large body, and one for each field of x:<id>
--   us users                  up updated               fi finished            cr created
--   da deadline               rt retention             cf cached from
--   rs result: tenant and digest, in between the job if it is another one's
--   ow owner's subject        dl deadline as a span    ca candidate           dg digest of the request
--   at, am attempts and their bound                    lo, lm lost leases and theirs
--   cc concurrency `max:key`  rk rate `every:burst:key`                       ik idempotency key
Q.HOT = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) ()'
Q.FINAL = { D = true, X = true, C = true } -- states in which a job has ended
Q.heads = {} -- by id: as text until somebody asks for its fields; false: there is none
Q.touched, Q.touched_n = {}, 0 -- those with fields that are to be written
Q.written, Q.written_n = {}, 0 -- keys and texts that are to be written
Q.JOB = T .. ':j:'

function Q.parse(id, text)
  local fl, us, st, ep, no, sa, wk, un, le, up, fi, rs, cf, du, ln, rt, tn, pr, da, cr, cold = text:match(Q.HOT)
  -- One that cannot be read is as good as none: it must not hold up the others.
  if not fl then return false end
  return {
    id = id, fl = fl, us = us, st = st, ep = ep, no = no, wk = wk, un = un, le = le, sa = sa, up = up, fi = fi,
    rs = rs, cf = cf, du = du, ln = ln, tn = tn, pr = pr, da = da, rt = rt, cr = cr, cold = text:sub(cold), text = text,
  }
end

-- Reads the heads of many ids at once.
function Q.fetch(ids)
  local heads, keys, wanted, n = Q.heads, {}, {}, 0
  for _, id in ipairs(ids) do
    if heads[id] == nil then
      n = n + 1
      keys[n], wanted[n] = Q.JOB .. id, id
      heads[id] = false
    end
  end
  for m, told in ipairs(Q.in_chunks('MGET', keys)) do
    heads[wanted[m]] = told
  end
end

-- What is to be written with everything else.
function Q.write(key, text)
  local n = Q.written_n + 2
  Q.written[n - 1], Q.written[n], Q.written_n = key, text, n
end

-- Takes the next form of a head from who made it out of the text, not out of the fields.
function Q.rewrite(id, text)
  Q.heads[id] = text
  Q.write(Q.JOB .. id, text)
end

-- Its place in its tenant's queue.
function Q.place(h) return Q.print(h.du + (9 - h.pr) * 60000) end
