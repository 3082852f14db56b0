-- Replaces the settings of a queue by newer ones, or by any instead of a text that the caller has seen, and wakes the
-- queue's workers. The text and its parts are in queue_settings.py.
--
-- KEYS: settings, epoch
-- ARGV: text without the run id, text that may be newer or '', run id of the Redis that knows the leases or '', channel
-- Returns: 1 when they were replaced
local stored = redis.call('GET', KEYS[1]) or ''
local text, seen, run_id, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local function version(of)
  return tonumber(string.match(of, '^%d+')) or 0
end

if run_id == '' then
  -- Leases are known where all else is, and where they were counted before.
  local max_running, counted_by = string.match(stored, '^%d+ %S+ (%S+) %S+ %S+ (%S+)')
  run_id = redis.call('GET', KEYS[2]) or (max_running and max_running ~= '0' and counted_by) or '-'
end
text = text .. ' ' .. run_id
if text == stored or (version(text) < version(stored) and stored ~= seen) then
  return 0
end
redis.call('SET', KEYS[1], text)
redis.call('PUBLISH', channel, 0)
return 1
