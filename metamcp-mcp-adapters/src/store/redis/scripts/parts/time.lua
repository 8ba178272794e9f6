-- What every script begins with.
-- KEYS[1] is `{namespace}`: every key begins with it. ARGV[1] is the time in milliseconds in tests, else empty: then the server's clock
-- decides, and it alone. Instants are whole milliseconds below 10^14, which Lua keeps and prints exactly.
local R, T = redis.call, KEYS[1]
local now = tonumber(ARGV[1])
if not now then
  local t = R('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end

-- A whole number as text. One call writes few different numbers many times, and to print one costs more than to find it.
local printed = {}
local function print_number(number)
  local text = printed[number]
  if not text then
    text = string.format('%.0f', number)
    printed[number] = text
  end
  return text
end
local NOW = print_number(now)
