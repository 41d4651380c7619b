package storetest

import (
	"fmt"
	"strings"
	"time"
	"unsafe"

	"github.com/spillway-go/spillway/core"
)

const (
	ns = time.Nanosecond
	us = time.Microsecond
	ms = time.Millisecond
	sc = time.Second
	hr = time.Hour

	// maxCapacity is the largest that a Bucket may have.
	maxCapacity time.Duration = 1 << 62
)

// one is a list of one bucket.
func one(amount, capacity, level time.Duration) []core.Bucket {
	return []core.Bucket{bucket("s", amount, capacity, level)}
}

// script is a case that plays steps.
func script(steps ...step) func(*subject) {
	return func(s *subject) { s.play(steps) }
}

var cases = []testCase{
	{
		name:  "fills and drains",
		why:   "this is what a limit of one a second with a burst of five looks like from below",
		exact: true,
		run: script(
			step{0, true, one(1*sc, 5*sc, 1*sc)},
			step{0, true, one(1*sc, 5*sc, 2*sc)},
			step{0, true, one(3*sc, 5*sc, 5*sc)},
			step{0, false, one(1*sc, 5*sc, 5*sc)},
			step{999999 * us, false, one(1*sc, 5*sc, 4*sc+1*us)},
			step{1 * us, true, one(1*sc, 5*sc, 5*sc)},
			step{2 * sc, true, one(1*sc, 5*sc, 4*sc)},
			step{500 * ms, true, one(1*sc, 5*sc, 4500*ms)},
			step{0, false, one(1*sc, 5*sc, 4500*ms)},
			step{4500 * ms, true, one(0, 5*sc, 0)},
			step{100 * hr, true, one(5*sc, 5*sc, 5*sc)},
		),
	},
	{
		name:  "drains one second a second",
		why:   "a level is a time: nothing but the clock makes it fall, and it stops at zero",
		exact: true,
		run: script(
			step{0, true, one(10*sc, 1*hr, 10*sc)},
			step{1 * us, true, one(0, 1*hr, 10*sc-1*us)},
			step{3*sc - 1*us, true, one(0, 1*hr, 7*sc)},
			step{7*sc - 1*us, true, one(0, 1*hr, 1*us)},
			step{1 * us, true, one(0, 1*hr, 0)},
			step{1 * hr, true, one(0, 1*hr, 0)},
			step{0, true, one(1*sc, 1*hr, 1*sc)},
		),
	},
	{
		name: "drains on a real clock",
		why:  "the store's clock must run",
		run: func(s *subject) {
			s.expect(true, one(50*ms, 50*ms, 50*ms)...)
			s.sleep(60 * ms)
			s.expect(true, one(0, 50*ms, 0)...)
			s.expect(true, one(50*ms, 50*ms, 50*ms)...)
		},
	},
	{
		name: "refuses what does not fit",
		why:  "a limit that admits more than its burst is none",
		run: script(
			step{0, true, one(4*hr, 5*hr, 4*hr)},
			step{0, false, one(2*hr, 5*hr, 4*hr)},
			step{0, true, one(30*time.Minute, 5*hr, 4*hr+30*time.Minute)},
			step{0, false, one(1*hr, 5*hr, 4*hr+30*time.Minute)},
		),
	},
	{
		name: "refuses more than the capacity",
		why:  "a request that can never fit must not fill the bucket either",
		run: script(
			step{0, false, one(6*hr, 5*hr, 0)},
			step{0, false, one(1<<63-1, 5*hr, 0)},
			step{0, false, one(1<<63-1, maxCapacity, 0)},
			step{0, true, one(0, 5*hr, 0)},
			step{0, true, one(1*hr, 5*hr, 1*hr)},
			step{0, false, one(1<<63-1, 5*hr, 1*hr)},
			step{0, false, one(1<<63-1, maxCapacity, 1*hr)},
		),
	},
	{
		name:  "fits to the microsecond",
		why:   "a client that waits exactly as long as it was told to must get in, and not a moment sooner",
		exact: true,
		run: script(
			step{0, true, one(10*sc, 10*sc, 10*sc)},
			step{0, false, one(1*ns, 10*sc, 10*sc)},
			step{0, true, one(-10*sc, 10*sc, 0)},
			step{0, false, one(10*sc+1*us, 10*sc, 0)},
			step{0, false, one(10*sc+1*ns, 10*sc, 0)},
			step{0, true, one(10*sc-1*ns, 10*sc, 10*sc-1*ns)},
			step{0, false, one(2*ns, 10*sc, 10*sc-1*ns)},
			step{0, true, one(1*ns, 10*sc, 10*sc)},
			step{1 * us, false, one(1*us+1*ns, 10*sc, 10*sc-1*us)},
			step{0, true, one(1*us, 10*sc, 10*sc)},
		),
	},
	{
		name:  "small amounts add up exactly",
		why:   "700,000 a second is 1429 ns each: rounded to a microsecond it would be 40 % more or less",
		exact: true,
		run: func(s *subject) {
			const interval, burst = 1429 * ns, 1000
			for i := range time.Duration(burst) {
				s.expect(true, one(interval, interval*burst, interval*(i+1))...)
			}
			s.expect(false, one(interval, interval*burst, interval*burst)...)
			s.sleep(1 * us)
			s.expect(false, one(interval, interval*burst, interval*burst-1*us)...)
			s.sleep(1 * us)
			s.expect(true, one(interval, interval*burst, interval*burst-2*us+interval)...)
		},
	},
	{
		name:  "the smallest bucket",
		why:   "1 ns is a capacity like any other",
		exact: true,
		run: script(
			step{0, true, one(1*ns, 1*ns, 1*ns)},
			step{0, false, one(1*ns, 1*ns, 1*ns)},
			step{1 * us, true, one(1*ns, 1*ns, 1*ns)},
		),
	},
	{
		name: "the largest bucket",
		why:  "one a year with a burst of 146 is a limit like any other: no number may overflow or lose digits",
		run: script(
			step{0, true, one(365*24*hr, maxCapacity, 365*24*hr)},
			step{0, true, one(maxCapacity-365*24*hr, maxCapacity, maxCapacity)},
			step{0, false, one(365*24*hr, maxCapacity, maxCapacity)},
			step{0, true, one(0, maxCapacity, maxCapacity)},
			step{0, true, one(-maxCapacity, maxCapacity, 0)},
			step{0, true, one(maxCapacity, maxCapacity, maxCapacity)},
		),
	},
	{
		name:  "the largest bucket to the nanosecond",
		why:   "digits that are lost far from now are lost for good",
		exact: true,
		run: script(
			step{0, true, one(maxCapacity-1*ns, maxCapacity, maxCapacity-1*ns)},
			step{0, false, one(2*ns, maxCapacity, maxCapacity-1*ns)},
			step{0, true, one(1*ns, maxCapacity, maxCapacity)},
			step{1 * us, true, one(999*ns, maxCapacity, maxCapacity-1*ns)},
			step{365 * 24 * hr, true, one(0, maxCapacity, maxCapacity-1*ns-365*24*hr)},
		),
	},
	{
		name: "all or nothing",
		why:  "of 10/s and 1000/h, a request that one limit refuses must not count towards the other",
		run: script(
			step{0, true, []core.Bucket{bucket("tight", 1*hr, 2*hr, 1*hr), bucket("loose", 1*hr, 10*hr, 1*hr)}},
			step{0, true, []core.Bucket{bucket("tight", 1*hr, 2*hr, 2*hr), bucket("loose", 1*hr, 10*hr, 2*hr)}},
			step{0, false, []core.Bucket{bucket("tight", 1*hr, 2*hr, 2*hr), bucket("loose", 1*hr, 10*hr, 2*hr)}},
			step{0, false, []core.Bucket{bucket("loose", 1*hr, 10*hr, 2*hr), bucket("tight", 1*hr, 2*hr, 2*hr)}},
			step{0, false, []core.Bucket{bucket("fresh", 1*hr, 10*hr, 0), bucket("tight", 1*hr, 2*hr, 2*hr)}},
			step{0, true, []core.Bucket{bucket("fresh", 0, 10*hr, 0), bucket("loose", 0, 10*hr, 2*hr), bucket("tight", 0, 2*hr, 2*hr)}},
		),
	},
	{
		name: "all or nothing when giving back",
		why:  "a refused call must not give anything back",
		run: script(
			step{0, true, []core.Bucket{bucket("a", 5*hr, 5*hr, 5*hr), bucket("b", 5*hr, 5*hr, 5*hr)}},
			step{0, false, []core.Bucket{bucket("a", -2*hr, 5*hr, 5*hr), bucket("b", 1*hr, 5*hr, 5*hr)}},
			step{0, true, []core.Bucket{bucket("a", -2*hr, 5*hr, 3*hr), bucket("b", 0, 5*hr, 5*hr)}},
			step{0, true, []core.Bucket{bucket("a", 1*hr, 5*hr, 4*hr), bucket("b", -1*hr, 5*hr, 4*hr)}},
		),
	},
	{
		name: "many buckets in a call",
		why:  "a policy may have any number of limits",
		run: func(s *subject) {
			var first, second []core.Bucket
			for i := range 20 {
				level := time.Duration(i+1) * hr
				first = append(first, bucket(fmt.Sprint("s", i), level, 100*hr, level))
				second = append(second, bucket(fmt.Sprint("s", i), level, 100*hr, 2*level))
			}
			s.expect(true, first...)
			s.expect(true, second...)
		},
	},
	{
		name:  "remembers what was topped up",
		why:   "a bucket may be forgotten when it is empty, not when it would have been but for what came later",
		exact: true,
		run: func(s *subject) {
			for _, amount := range []time.Duration{1 * ms, 1 * hr} {
				for i := range 20 {
					s.pour(bucket(fmt.Sprint("s", i), amount, 2*hr, 0))
				}
			}
			s.sleep(1 * sc)
			s.expect(true, bucket("another", 1*sc, 2*hr, 1*sc))
			for i := range 20 {
				s.expect(true, bucket(fmt.Sprint("s", i), 0, 2*hr, 1*hr+1*ms-1*sc))
			}
		},
	},
	{
		name: "no bucket at all",
		why:  "a call without buckets asks for nothing, so nothing stands against it",
		run:  script(step{0, true, nil}),
	},
	{
		name: "zero reads",
		why:  "a peek must change nothing, not even a level above the capacity it asks with",
		run: script(
			step{0, true, one(0, 5*hr, 0)},
			step{0, true, one(5*hr, 5*hr, 5*hr)},
			step{0, true, one(0, 5*hr, 5*hr)},
			step{0, true, one(0, 2*hr, 2*hr)},
			step{0, true, one(0, 5*hr, 5*hr)},
			step{0, false, []core.Bucket{bucket("s", 0, 2*hr, 2*hr), bucket("other", 2*hr, 1*hr, 0)}},
			step{0, true, one(0, 5*hr, 5*hr)},
		),
	},
	{
		name: "a negative amount gives back",
		why:  "what was taken in vain is returned, but nobody gets credit for it",
		run: script(
			step{0, true, one(-1*hr, 5*hr, 0)},
			step{0, true, one(5*hr, 5*hr, 5*hr)},
			step{0, true, one(-2*hr, 5*hr, 3*hr)},
			step{0, true, one(-1*ns, 5*hr, 3*hr-1*ns)},
			step{0, true, one(-4*hr, 5*hr, 0)},
			step{0, true, one(5*hr, 5*hr, 5*hr)},
			step{0, false, one(1*hr, 5*hr, 5*hr)},
			step{0, true, one(-1<<63, 5*hr, 0)},
			step{0, true, one(5*hr, 5*hr, 5*hr)},
			step{0, true, one(-5*hr, 5*hr, 0)},
		),
	},
	{
		name:  "a tightened limit heals",
		why:   "after a change from one a day to ten a second nobody may be locked out until tomorrow",
		exact: true,
		run: script(
			step{0, true, one(24*hr, 24*hr, 24*hr)},
			step{0, false, one(1*sc, 10*sc, 10*sc)},
			step{1 * sc, true, one(1*sc, 10*sc, 10*sc)},
			step{0, true, one(0, 24*hr, 10*sc)},
			step{10 * sc, true, one(0, 24*hr, 0)},
		),
	},
	{
		name:  "a tightened limit heals while it refuses",
		why:   "a client that asks now and then, and is refused each time, waits no longer than one drain of the new bucket",
		exact: true,
		run: script(
			step{0, true, one(24*hr, 24*hr, 24*hr)},
			step{0, false, one(10*sc, 10*sc, 10*sc)},
			step{4 * sc, false, one(10*sc, 10*sc, 6*sc)},
			step{6 * sc, true, one(10*sc, 10*sc, 10*sc)},
		),
	},
	{
		name:  "a tightened limit heals beside another",
		why:   "a bucket is put right even if it is another that refuses the call",
		exact: true,
		run: script(
			step{0, true, []core.Bucket{bucket("a", 24*hr, 24*hr, 24*hr), bucket("b", 1*hr, 1*hr, 1*hr)}},
			step{0, false, []core.Bucket{bucket("a", 1*sc, 10*sc, 10*sc), bucket("b", 1*sc, 1*hr, 1*hr)}},
			step{0, true, []core.Bucket{bucket("a", 0, 24*hr, 10*sc), bucket("b", 0, 1*hr, 1*hr)}},
		),
	},
	{
		name: "a tightened limit gives back from its capacity",
		why:  "what is above the capacity is not there",
		run: script(
			step{0, true, one(24*hr, 24*hr, 24*hr)},
			step{0, true, one(-1*hr, 10*hr, 9*hr)},
			step{0, true, one(0, 24*hr, 9*hr)},
		),
	},
	{
		name: "a loosened limit keeps its debt",
		why:  "a changed limit is no amnesty",
		run: script(
			step{0, true, one(1*hr, 1*hr, 1*hr)},
			step{0, true, one(2*hr, 3*hr, 3*hr)},
			step{0, false, one(1*hr, 3*hr, 3*hr)},
		),
	},
	{
		name: "scopes and keys are apart",
		why:  "nobody may fill or empty the bucket of another, whatever he calls himself",
		run:  apart,
	},
	{
		name: "keys are not kept",
		why:  "a web framework recycles the bytes of a header as soon as the request is over",
		run:  recycled,
	},
	{
		name: "one bucket, many at once",
		why:  "test and addition are one step: two must not both take the last place",
		run:  contended,
	},
	{
		name: "many buckets, many at once, in any order",
		why:  "calls that take the same buckets in opposite orders must not wait for each other, and neither take one without the other",
		run:  crossed,
	},
	{
		name:  "never more than the limit, and no fewer",
		why:   "in any time d at most burst + d/interval pass, and who waits as long as he was told to does pass",
		exact: true,
		run:   withinLimit,
	},
	{
		name:  "agrees with the model",
		why:   "any sequence of limits, amounts and pauses ends as the contract says, to the nanosecond",
		exact: true,
		run:   agrees,
	},
}

func apart(s *subject) {
	long := strings.Repeat("k", 1<<20)
	var buckets []core.Bucket
	for _, id := range [][2]string{
		{"a", ""}, {"a", "b"}, {"a", "b:c"}, {"a:b", "c"}, {"a:b:c", ""}, {"a:b", ""}, {"b", "a"},
		{"s", "\x00"}, {"s", "\x00\x00"}, {"s", "a\x00"}, {"s", "a\x00b"},
		{"s", long}, {"s", long + "k"}, {"s", long[1:] + "l"},
		{"s", "{a}"}, {"s", "{}"}, {"s", "}{"}, {"s", "{a}b"},
		{"s", "\xff\xfe"}, {"s", "\xff"}, {"s", "\ufffd"}, {"s", "\r\n"}, {"s", " "}, {"s", "*"},
		{"s", "é"}, {"s", "e\u0301"}, {"s", "A"}, {"s", "a"}, {"s", "<nil>"}, {"s", "%s"},
	} {
		level := time.Duration(len(buckets)+1) * 10 * hr
		buckets = append(buckets, core.Bucket{Scope: id[0], Key: id[1], Amount: level, Capacity: 1000 * hr, Level: level})
	}
	for _, b := range buckets {
		s.expect(true, b)
	}
	for _, b := range buckets {
		b.Amount = 0
		s.expect(true, b)
	}
}

func recycled(s *subject) {
	bytes := []byte("alice")
	s.pour(core.Bucket{Scope: "s", Key: unsafe.String(&bytes[0], len(bytes)), Amount: 1 * hr, Capacity: 5 * hr})
	copy(bytes, "mally")
	s.expect(true, core.Bucket{Scope: "s", Key: "mally", Capacity: 5 * hr, Level: 0})
	s.expect(true, core.Bucket{Scope: "s", Key: "alice", Capacity: 5 * hr, Level: 1 * hr})
}
