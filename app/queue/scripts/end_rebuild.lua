-- Notes that this Redis has been told of every waiting task, unless it was wiped or restarted while it was being told:
-- then the mark that was set at the beginning is gone, and so is some of what was said after it.
--
-- KEYS: mark of the rebuild, epoch
-- ARGV: the mark: the run id, a space and a random part
-- Returns: 1 when noted
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], string.match(ARGV[1], '^%S+'))
return 1
