-- Ends leases: an id either leaves Redis or goes back to its queue. Nothing happens to an id that another lease holds.
--
-- KEYS: waiting ids, leases
-- ARGV: in-progress prefix, job prefix, then for each id: id, token, score ('' leaves Redis), job TTL in ms
-- Returns: how many ids were settled
local waiting, leases = KEYS[1], KEYS[2]
local in_progress, job = ARGV[1], ARGV[2]
local settled = 0
for i = 3, #ARGV, 4 do
  local id, token, score, ttl = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
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
return settled
