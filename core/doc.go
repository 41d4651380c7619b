// Package core decides whether a request may pass: leaky-bucket rate limiting
// that knows nothing of any web framework and nothing of any database.
//
// # The model
//
// Picture one bucket for each client. Every request pours in a measure of
// water, and the bucket leaks steadily. A request that would make it overflow
// is refused and pours nothing.
//
// Here water is time. A bucket's level is the time that it takes to drain
// empty, so it falls by one second a second, whatever the limit. For the limit
// "100 a minute" a request pours in the emission interval, 60 s / 100 = 600 ms,
// and the bucket holds that much Burst times: 100 requests at once fill it to
// its capacity of 60 s, after which one more fits every 600 ms. The algorithm
// is known as GCRA, the generic cell rate algorithm (ITU-T I.371); both views
// decide alike. In any stretch of time d it admits at most Burst + d/interval
// requests, and never fewer than were asked for at a steady pace of one each
// interval.
//
// From the level follows all that a client is told:
//
//	remaining    how many more fit now:          (capacity - level) / interval
//	retry after  until n requests fit:           level + n*interval - capacity
//	reset after  until the bucket is empty:      level
//
// # The rooms of the house
//
// A [Store] keeps the levels: [Memory] for one process, or
// [github.com/spillway-go/spillway/core/redisstore.Store] for many. A [Limiter]
// does the arithmetic over a store, for any key and any [Limit]. A [Guard]
// applies a [Policy] to HTTP requests: it finds the route's limit and the
// client's key, asks the Limiter, and answers with a [Decision], headers
// included. Adapters such as
// [github.com/spillway-go/spillway/nethttp] translate between a framework and
// a Guard, and nothing else.
//
// Most programs need an adapter and two values from here:
//
//	limiter := core.New(core.NewMemory())
//	handler = nethttp.Limit(limiter, core.Policy{Limit: core.PerMinute(100)})(handler)
//
// Programs without requests, such as jobs and batches, use [Limiter.Allow],
// [Limiter.Wait] or a [LeakyBucket].
//
// Time is [time.Now]. To test code that uses this package, let time pass with
// [testing/synctest].
package core
