-- Records.
--
--   rec:<kind>:<name>  a record: v version, d value, u until when, empty for ever
--   names:<kind>       the names of a kind, in order · rec_ends  records by their end, named `kind:name`
local function record_at(kind, name) return T .. ':rec:' .. kind .. ':' .. name end

-- Version and value of a record that is there; one past its time is not.
local function standing(kind, name)
  local version, value, til = unpack(R('HMGET', record_at(kind, name), 'v', 'd', 'u'))
  if not version or til ~= '' and tonumber(til) <= now then return nil end
  return tonumber(version), value
end

local function remove(kind, name)
  R('DEL', record_at(kind, name))
  R('ZREM', T .. ':names:' .. kind, name)
  R('ZREM', T .. ':rec_ends', kind .. ':' .. name)
end
