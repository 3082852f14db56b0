-- Takes due ids from one queue, each under a new lease, in one atomic step, as far as the settings of the queue allow.
-- The typed stub and the meaning of the scores are in scripts.py and keys.py, that of the settings in queue_settings.py.
--
-- KEYS: waiting ids, leases, settings, rate, epoch
-- ARGV: limit, lease in ms, token, in-progress prefix, ready band, ageing in ms, priority steps, settings that the caller
--       knows of: '' when there are none, '?' when it cannot tell
-- Returns: now, when to look again or -1, the settings that hold or '', taken ids ...
local waiting, leases, rate = KEYS[1], KEYS[2], KEYS[4]
local room, lease_ms, token, prefix = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local band, ageing, steps, known = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]

local clock = redis.call('TIME')
local exact_now = clock[1] * 1000 + clock[2] / 1000
local now = math.floor(exact_now)
local until_ms = now + lease_ms

local function version(of)
  return tonumber(string.match(of, '^%d+')) or 0
end

-- What the caller knows holds while Redis has forgotten it, so that a wipe opens no queue that is paused or limited.
local stored = redis.call('GET', KEYS[3]) or ''
local settings = stored
if known ~= stored and version(known) > version(stored) then
  settings = known
end
if settings == '' and known == '?' and redis.call('EXISTS', KEYS[5]) == 0 then
  return { now, now + 200, '' }
end

local function this_run()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%w+)')
end

-- Whether Redis can count what runs: see queue_settings.py. A server that does not say who it is has to be believed.
local function knows_leases()
  local counted_by = string.match(stored, '(%S+)$')
  return counted_by and counted_by ~= '-' and counted_by == (this_run() or counted_by)
end

-- The rate is a bucket of tokens, kept as the moment when it will be full again: a start moves that by `interval`.
local interval, burst, full_at
local function keep_rate()
  redis.call('SET', rate, string.format('%.3f', full_at), 'PX', math.ceil(full_at - exact_now))
end

if settings ~= '' then
  local paused, max_running, per_second, of_burst = string.match(settings, '^%d+ (%S+) (%S+) (%S+) (%S+)')
  if paused == '1' then
    return { now, -1, settings }
  end
  max_running, per_second = tonumber(max_running), tonumber(per_second)
  if max_running > 0 then
    if not knows_leases() then
      return { now, now + 500, settings }
    end
    room = math.min(room, max_running - redis.call('ZCOUNT', leases, '(' .. now, '+inf'))
  end
  if per_second > 0 then
    interval, burst = 1000 / per_second, tonumber(of_burst)
    local most = exact_now + burst * interval
    local kept = tonumber(redis.call('GET', rate) or 0)
    full_at = math.min(most, math.max(exact_now, kept))
    if kept > most then
      keep_rate() -- it is from a slower rate, and would hold the faster one back for as long
    end
    room = math.min(room, math.floor((most - full_at) / interval + 0.001))
  end
  room = math.max(room, 0)
end

local taken = {}
local function take(id)
  redis.call('SET', prefix .. id, token, 'PX', lease_ms)
  redis.call('ZADD', leases, until_ms, id)
  taken[#taken + 1] = id
end

-- Leases that lapsed: their worker is gone, the id is given to this one.
local lapsed = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, room)
for _, id in ipairs(lapsed) do
  take(id)
end

-- Deferred ids whose time has come move to the ready band. Bounded, so that no call holds Redis for long. Mostly there
-- are none, and one look at the first of them tells that and when to look again.
local function first_deferred()
  local first = redis.call('ZRANGEBYSCORE', waiting, band, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] and math.floor(tonumber(first[2])) or -1
end

local look_at = first_deferred()
if look_at >= 0 and look_at <= now then
  local due = redis.call('ZRANGEBYSCORE', waiting, band, '(' .. (now + 1), 'WITHSCORES', 'LIMIT', 0, room + 500)
  for i = 1, #due, 2 do
    local score = tonumber(due[i + 1])
    local at = math.floor(score)
    redis.call('ZADD', waiting, at - (score - at) * steps * ageing - band, due[i])
  end
  look_at = first_deferred()
end

room = room - #taken
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

if interval then
  if #taken > 0 then
    full_at = full_at + #taken * interval
    keep_rate()
  end
  -- A fast rate is looked at twenty times a second and not at every token, but before the bucket is full.
  local tokens = math.max(1, math.min(math.ceil(burst / 2), math.floor(50 / interval)))
  local again = math.ceil(full_at + (tokens - burst) * interval)
  if again > now and (look_at < 0 or again < look_at) and
    #redis.call('ZRANGEBYSCORE', waiting, '-inf', '(' .. band, 'LIMIT', 0, 1) > 0 then
    look_at = again
  end
end

local reply = { now, look_at, settings }
for _, id in ipairs(taken) do
  reply[#reply + 1] = id
end
return reply
