-- What every script begins with. KEYS[1] is `{namespace}`: every key begins with it. ARGV[1] is the time in
-- milliseconds in tests, else empty: then the server's clock decides, and it alone. Instants are whole milliseconds
-- below 10^14, which Lua keeps and prints exactly.
local R, T = redis.call, KEYS[1]
local now = tonumber(ARGV[1])
if not now then
  local t = R('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
