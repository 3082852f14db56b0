-- Takes due ids from one queue, each under a new lease, in one atomic step.
-- The typed stub and the meaning of the scores are in scripts.py and keys.py.
--
-- KEYS: waiting ids, leases, pause switch
-- ARGV: limit, lease in ms, token, in-progress prefix, ready band, ageing in ms, priority steps
-- Returns: now, next due time or -1, taken ids ...
local waiting, leases, paused = KEYS[1], KEYS[2], KEYS[3]
local limit, lease_ms, token, prefix = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local band, ageing, steps = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local until_ms = now + lease_ms
local taken = {}
if redis.call('EXISTS', paused) == 1 then
  return { now, -1 }
end

local function take(id)
  redis.call('SET', prefix .. id, token, 'PX', lease_ms)
  redis.call('ZADD', leases, until_ms, id)
  taken[#taken + 1] = id
end

-- Leases that lapsed: their worker is gone, the id is given to this one.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, limit)) do
  take(id)
end

-- Deferred ids whose time has come move to the ready band. Bounded, so that no call holds Redis for long. Mostly there
-- are none, and one look at the first of them tells that and when to look again.
local function first_deferred()
  local first = redis.call('ZRANGEBYSCORE', waiting, band, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] and math.floor(tonumber(first[2])) or -1
end

local next_due = first_deferred()
if next_due >= 0 and next_due <= now then
  local due = redis.call('ZRANGEBYSCORE', waiting, band, '(' .. (now + 1), 'WITHSCORES', 'LIMIT', 0, limit + 500)
  for i = 1, #due, 2 do
    local score = tonumber(due[i + 1])
    local at = math.floor(score)
    redis.call('ZADD', waiting, at - (score - at) * steps * ageing - band, due[i])
  end
  next_due = first_deferred()
end

local room = limit - #taken
if room > 0 then
  local ready = redis.call('ZRANGEBYSCORE', waiting, '-inf', '(' .. band, 'LIMIT', 0, room)
  if #ready > 0 then
    redis.call('ZREM', waiting, unpack(ready))
    for _, id in ipairs(ready) do
      -- An id that is running already was queued twice; its holder's lease stays as it is.
      if redis.call('EXISTS', prefix .. id) == 0 then
        take(id)
      end
    end
  end
end

local reply = { now, next_due }
for _, id in ipairs(taken) do
  reply[#reply + 1] = id
end
return reply
