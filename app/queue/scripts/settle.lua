-- Ends leases: an id either leaves Redis or goes back to its queue. Nothing happens to an id that another lease holds.
-- Whoever waits for ids that leave is told, of those that another lease holds too: MongoDB says that they have ended.
-- Where the queue's `max_running` held ids back, its workers are woken.
--
-- KEYS: waiting ids, leases, settings
-- ARGV: in-progress prefix, job prefix, ready band, wake channel, channel of ids that have ended,
--       then for each id: id, token, score ('' leaves Redis), job TTL in ms
-- Returns: how many ids were settled
local waiting, leases = KEYS[1], KEYS[2]
local in_progress, job, band, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local settled, ended = 0, {}
for i = 6, #ARGV, 4 do
  local id, token, score, ttl = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if score == '' then
    ended[#ended + 1] = id
  end
  local holder = redis.call('GET', in_progress .. id)
  -- No holder: the lease lapsed a moment ago and nobody has taken the id since.
  if holder == token or not holder then
    redis.call('DEL', in_progress .. id)
    redis.call('ZREM', leases, id)
    if score == '' then
      redis.call('DEL', job .. id)
    else
      redis.call('ZADD', waiting, score, id)
      redis.call('PEXPIRE', job .. id, ttl)
    end
    settled = settled + 1
  end
end
if #ended > 0 then
  redis.call('PUBLISH', ARGV[5], table.concat(ended, ' '))
end
local settings = settled > 0 and redis.call('GET', KEYS[3])
local max_running = settings and tonumber(string.match(settings, '^%d+ %S+ (%S+)'))
if max_running and max_running > 0 and redis.call('ZCARD', leases) + settled >= max_running and
  #redis.call('ZRANGEBYSCORE', waiting, '-inf', '(' .. band, 'LIMIT', 0, 1) > 0 then
  redis.call('PUBLISH', channel, 0)
end
return settled
