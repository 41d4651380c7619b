package core

import "sync"

// A shard holds a part of the buckets of a [Memory]: a table to find them by
// id, and a heap to find the one nearest to empty.
//
// The heap is lazy. Pouring into a bucket moves the instant at which it runs
// dry further away, and nothing else: its place in the heap is put right only
// when it comes to the top. So the busiest path does not touch the heap, and
// what was saved is paid at most once for each bucket that is dropped or passed
// over.
type shard struct {
	sync.Mutex
	index   map[id]uint32 // position in buckets
	buckets []bucket
	heap    []heapEntry // the earliest due on top
}

type bucket struct {
	id   id
	dry  int64  // the instant at which the bucket runs dry
	heap uint32 // position in the heap
}

type heapEntry struct {
	due    int64 // never later than the bucket's dry
	bucket uint32
}

// minShrink is the size below which a shard does not bother to give back memory.
const minShrink = 256

func (s *shard) reset(capacity int) {
	s.index = make(map[id]uint32, capacity)
	s.buckets = make([]bucket, 0, capacity)
	s.heap = make([]heapEntry, 0, capacity)
}

// find returns the position of a bucket, or absent.
func (s *shard) find(id id) int {
	if i, ok := s.index[id]; ok {
		return int(i)
	}
	return absent
}

// set changes the instant at which a bucket runs dry.
func (s *shard) set(bucket int, dry int64) {
	b := &s.buckets[bucket]
	b.dry = dry
	if s.heap[b.heap].due > dry {
		s.heap[b.heap].due = dry
		s.up(int(b.heap))
	}
}

func (s *shard) add(id id, dry int64) {
	if i := s.find(id); i != absent { // twice in one call, against the contract
		s.set(i, dry)
		return
	}
	i := uint32(len(s.buckets))
	s.index[id] = i
	s.buckets = append(s.buckets, bucket{id: id, dry: dry, heap: i})
	s.heap = append(s.heap, heapEntry{due: dry, bucket: i})
	s.up(len(s.heap) - 1)
}

// dropDrained drops up to n buckets that have run dry, and returns how many.
func (s *shard) dropDrained(now int64, n int) int {
	dropped := 0
	for tries := 0; tries < n && len(s.heap) > 0 && s.heap[0].due <= now; tries++ {
		if s.settle() {
			s.dropTop()
			dropped++
		}
	}
	return dropped
}

// dropNearest drops the bucket nearest to empty, and reports whether there was
// one.
func (s *shard) dropNearest() bool {
	if len(s.heap) == 0 {
		return false
	}
	for !s.settle() {
	}
	s.dropTop()
	return true
}

// settle puts the entry on top of the heap right, and reports whether it was.
func (s *shard) settle() bool {
	top := &s.heap[0]
	dry := s.buckets[top.bucket].dry
	if top.due == dry {
		return true
	}
	top.due = dry
	s.down(0)
	return false
}

func (s *shard) dropTop() {
	dropped := s.heap[0].bucket
	delete(s.index, s.buckets[dropped].id)

	last := len(s.heap) - 1
	s.move(0, s.heap[last])
	s.heap = s.heap[:last]
	if last > 0 {
		s.down(0)
	}

	end := uint32(len(s.buckets) - 1)
	if moved := s.buckets[end]; dropped != end {
		s.buckets[dropped] = moved
		s.index[moved.id] = dropped
		s.heap[moved.heap].bucket = dropped
	}
	s.buckets = s.buckets[:end]
	if cap(s.buckets) > minShrink && len(s.buckets) < cap(s.buckets)/4 {
		s.shrink()
	}
}

// shrink moves what is left into new memory: neither a slice nor a map ever
// gives any back.
func (s *shard) shrink() {
	buckets, heap := s.buckets, s.heap
	s.reset(2 * len(buckets))
	s.buckets = append(s.buckets, buckets...)
	s.heap = append(s.heap, heap...)
	for i := range s.buckets {
		s.index[s.buckets[i].id] = uint32(i)
	}
}

// move puts an entry at position i of the heap.
func (s *shard) move(i int, e heapEntry) {
	s.heap[i] = e
	s.buckets[e.bucket].heap = uint32(i)
}

func (s *shard) up(i int) {
	e := s.heap[i]
	for i > 0 {
		parent := (i - 1) / 2
		if s.heap[parent].due <= e.due {
			break
		}
		s.move(i, s.heap[parent])
		i = parent
	}
	s.move(i, e)
}

func (s *shard) down(i int) {
	e := s.heap[i]
	for {
		child := 2*i + 1
		if child >= len(s.heap) {
			break
		}
		if right := child + 1; right < len(s.heap) && s.heap[right].due < s.heap[child].due {
			child = right
		}
		if e.due <= s.heap[child].due {
			break
		}
		s.move(i, s.heap[child])
		i = child
	}
	s.move(i, e)
}
