-- Pours into leaky buckets, into all of them or into none.
--
-- KEYS   one for each bucket. Its state is the instant at which the bucket runs
--        dry, in nanoseconds since the Unix epoch; without state it is empty.
-- ARGV   four for each bucket: the amount and the capacity, as us and ns each.
-- Reply  1 if poured or else 0, then the level of each bucket, as us and ns.
--
-- A number here is a double or, in Lua 5.4, an integer, and neither may lose a
-- digit. Nanoseconds since the epoch do not fit a double. So every time is a
-- pair: whole microseconds, which stay below 2^53 until the year 2109 and beyond,
-- and the nanoseconds that remain, 0 to 999. The clock has no nanoseconds.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

-- The two replies that are possible, from the start with room for one bucket.
local before, after = {0, 0, 0}, {1, 0, 0}
local above = {} -- buckets found above their capacity
local refused = false

for i = 1, #KEYS do
	local amount_us, amount_ns = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
	local capacity_us, capacity_ns = tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
	local us, ns = 0, 0

	local state = redis.pcall('GET', KEYS[i])
	if type(state) == 'table' then
		-- A key of another type is a bucket that cannot be read. Any other error
		-- is not an empty bucket: that would lift the limit.
		if string.sub(state.err, 1, 9) ~= 'WRONGTYPE' then
			return state
		end
	elseif state and #state <= 19 then
		local dry_us, dry_ns = string.match(state, '^(%d+)(%d%d%d)$')
		if dry_us and tonumber(dry_us) >= now then
			us, ns = tonumber(dry_us) - now, tonumber(dry_ns)
		end
	end
	if us > capacity_us or us == capacity_us and ns > capacity_ns then
		us, ns = capacity_us, capacity_ns
		above[i] = true
	end
	before[2 * i], before[2 * i + 1] = us, ns

	us, ns = us + amount_us, ns + amount_ns
	if ns >= 1000 then
		us, ns = us + 1, ns - 1000
	end
	if us < 0 then
		us, ns = 0, 0
	end
	if us > capacity_us or us == capacity_us and ns > capacity_ns then
		refused = true
	end
	after[2 * i], after[2 * i + 1] = us, ns
end

local reply = refused and before or after

for i = 1, #KEYS do
	local pours = tonumber(ARGV[4 * i - 3]) ~= 0 or tonumber(ARGV[4 * i - 2]) ~= 0
	-- A refusal writes nothing, except that a level above the capacity is put
	-- right: as it was, it would keep its client out until it came down by itself.
	if pours and (above[i] or not refused) then
		local us, ns = reply[2 * i], reply[2 * i + 1]
		if us == 0 and ns == 0 then
			redis.call('DEL', KEYS[i])
		else
			local dry = string.format('%.0f%03d', now + us, ns)
			local ttl = math.floor((us + (ns > 0 and 1000 or 999)) / 1000)
			redis.call('SET', KEYS[i], dry, 'PX', ttl)
		end
	end
end

return reply
