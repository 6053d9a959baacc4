-- What wrk sends. Configured by the environment:
--   BENCH_KIND    get | set | mix | bulk | options (set with ttl and tags) | same (get with the ETag) | etcd
--   BENCH_PREFIX  of the keys; BENCH_KEYS how many there are; BENCH_SIZE bytes of a value
--   BENCH_GET     the path before a key; BENCH_PEER ringmaster | webdis | nginx | etcd
--   BENCH_TAGS    for same: a file with the ETag of each key, one a line, from key 0 on
--   BENCH_ZIPF    a file of key numbers, one a line, drawn by popularity (else uniform)

local kind = os.getenv("BENCH_KIND")
local peer = os.getenv("BENCH_PEER")
local prefix = os.getenv("BENCH_PREFIX")
local keys = tonumber(os.getenv("BENCH_KEYS"))
local size = tonumber(os.getenv("BENCH_SIZE"))
local get_path = os.getenv("BENCH_GET")
local zipf_file = os.getenv("BENCH_ZIPF")
local value = string.rep("x", size)
local drawn, at = nil, 0
local tags_file, tags = os.getenv("BENCH_TAGS"), {}

function init(args)
  math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"), 16) % 100000)
  if tags_file and tags_file ~= "" then
    for line in io.lines(tags_file) do tags[#tags + 1] = line end
  end
  if zipf_file and zipf_file ~= "" then
    drawn = {}
    for line in io.lines(zipf_file) do drawn[#drawn + 1] = line end
    at = math.random(#drawn)
  end
end

local function key()
  if drawn then
    at = at % #drawn + 1
    return prefix .. drawn[at]
  end
  return prefix .. math.random(0, keys - 1)
end

local json = { ["Content-Type"] = "application/json" }

local function get()
  return wrk.format("GET", get_path .. key())
end

local function set()
  if peer == "webdis" then
    return wrk.format("PUT", "/SET/" .. key(), nil, value)
  end
  return wrk.format("POST", "/data", json, '{"key":"' .. key() .. '","value":"' .. value .. '"}')
end

local function options()
  local number = math.random(0, keys - 1)
  local body = '{"key":"' .. prefix .. number .. '","value":"' .. value .. '","ttl":3600,"tags":["news","user-' .. number % 100 .. '"]}'
  return wrk.format("POST", "/data", json, body)
end

local function same()
  local number = math.random(0, keys - 1)
  return wrk.format("GET", get_path .. prefix .. number, { ["If-None-Match"] = tags[number + 1] })
end

local function bulk()
  local list = {}
  for i = 1, 100 do list[i] = '"' .. key() .. '"' end
  return wrk.format("POST", "/data/bulk/get", json, "[" .. table.concat(list, ",") .. "]")
end

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local function base64(text)
  local out = {}
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    for j = 3, 0, -1 do
      local index = math.floor(n / 64 ^ j) % 64
      out[#out + 1] = alphabet:sub(index + 1, index + 1)
    end
    if not b then out[#out - 1], out[#out] = "=", "=" elseif not c then out[#out] = "=" end
  end
  return table.concat(out)
end

local function etcd()
  return wrk.format("POST", "/v3/kv/range", json, '{"key":"' .. base64(key()) .. '"}')
end

if kind == "get" then request = get
elseif kind == "set" then request = set
elseif kind == "bulk" then request = bulk
elseif kind == "options" then request = options
elseif kind == "same" then request = same
elseif kind == "etcd" then request = etcd
else
  request = function()
    if math.random() < 0.9 then return get() end
    return set()
  end
end
