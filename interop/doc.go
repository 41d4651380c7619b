// Package interop has no code. Its tests hold spillway against programs that
// others have written: clients that obey its answers, and a server that limits by
// leaky buckets as well.
//
// # nginx
//
// limit_req of nginx and a [core.Policy] admit, delay and refuse the same
// requests, at the same instants:
//
//	limit_req_zone $key zone=z:1m rate=2r/s;
//	limit_req zone=z;                     Policy{Limit: PerSecond(2).WithBurst(1)}
//	limit_req zone=z burst=4 nodelay;     Policy{Limit: PerSecond(2).WithBurst(5)}
//	limit_req zone=z burst=4;             Policy{Limit: PerSecond(2).WithBurst(1), MaxWait: 2 * time.Second}
//	limit_req zone=z burst=4 delay=2;     Policy{Limit: PerSecond(2).WithBurst(3), MaxWait: 1 * time.Second}
//
// So WithBurst is delay+1, for nginx does not count the first request, and
// MaxWait is (burst-delay) intervals. They differ in this:
//
//   - nginx keeps a rate in thousandths of a request a second and cuts off the
//     rest: 1r/m is 0.96 a minute, 7r/m is 6.96. Here it is the nearest interval
//     of whole nanoseconds that admits no more than the limit.
//   - nginx counts milliseconds, and thousandths of a request that have drained,
//     and cuts off the rest of both. Delays are off by a millisecond or so.
//   - If a client hangs up while it is held, nginx keeps what its request took.
//     Here it is given back, unless others are held behind it.
//   - nginx does not limit requests whose key is empty. Here they are limited by
//     IP.
//   - nginx refuses with 503 unless limit_req_status says 429, and never says when
//     to come back. Here it is 429 with Retry-After.
//
// [core.Policy]: https://pkg.go.dev/github.com/spillway-go/spillway/core#Policy
package interop
