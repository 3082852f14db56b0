-- Extends leases, and restores them after Redis lost its memory.
--
-- KEYS: waiting ids, leases
-- ARGV: lease in ms, in-progress prefix, then for each id: id, token
-- Returns: the ids that another lease holds by now
local waiting, leases = KEYS[1], KEYS[2]
local lease_ms, prefix = tonumber(ARGV[1]), ARGV[2]
local clock = redis.call('TIME')
local until_ms = clock[1] * 1000 + math.floor(clock[2] / 1000) + lease_ms
local lost = {}
for i = 3, #ARGV, 2 do
  local id, token = ARGV[i], ARGV[i + 1]
  local holder = redis.call('GET', prefix .. id)
  if not holder and redis.call('ZSCORE', waiting, id) then
    -- It was settled and queued again after the caller looked: nothing to renew.
  elseif holder == token or not holder then
    redis.call('SET', prefix .. id, token, 'PX', lease_ms)
    redis.call('ZADD', leases, until_ms, id)
  else
    lost[#lost + 1] = id
  end
end
return lost
