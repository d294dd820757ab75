package blockcache

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// store makes blocks that say their key in each word, and overwrites what it gets back.
type store struct {
	out   atomic.Int64 // bytes handed out
	most  atomic.Int64
	loads atomic.Int64
	err   func(k Key) error
	free  sync.Pool
	full  atomic.Bool
}

func (s *store) Alloc(size int) (Memory, bool) {
	if s.full.Load() {
		return Memory{}, false
	}
	n := s.out.Add(int64(size))
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	if p, ok := s.free.Get().(*[]byte); ok && len(*p) == size {
		return Memory{Bytes: *p}, true
	}
	return Memory{Bytes: make([]byte, size)}, true
}

func (s *store) Free(mem Memory, size int) {
	m := mem.Bytes
	s.out.Add(-int64(size))
	for i := range m {
		m[i] = 0xee
	}
	s.free.Put(&m)
}

func (s *store) Load(k Key, mem Memory, size int) error {
	m := mem.Bytes
	s.loads.Add(1)
	for at := 0; at+8 <= size; at += 8 {
		binary.LittleEndian.PutUint64(m[at:], k.ID<<32|k.Sub)
	}
	if s.err != nil {
		return s.err(k)
	}
	return nil
}

func right(k Key, mem Memory) bool {
	m := mem.Bytes
	for at := 0; at+8 <= len(m); at += 8 {
		if binary.LittleEndian.Uint64(m[at:]) != k.ID<<32|k.Sub {
			return false
		}
	}
	return true
}

func sizeOf(k Key) int { return 8 * (1 + int(k.ID+3*k.Sub)%8) }

// TestModel drives a cache of one shard and a slow model of it with the same steps: what is in memory, in which order it
// goes, and the bytes must be the same.
func TestModel(t *testing.T) {
	type entry struct {
		key    Key
		refs   int
		peeked bool
	}
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		limit := int64(64 + r.IntN(600))
		st := &store{}
		bad := errors.New("bad")
		st.err = func(k Key) error {
			if k.ID%13 == 12 {
				return bad
			}
			return nil
		}
		c := New(st, Options{Limit: limit})
		var model []*entry // released longest ago first; those that are held are anywhere
		var held []*Block
		bytes := func() (n int64) {
			for _, e := range model {
				n += int64(sizeOf(e.key))
			}
			return n
		}
		lookup := func(k Key) *entry {
			for _, e := range model {
				if e.key == k {
					return e
				}
			}
			return nil
		}
		touch := func(e *entry) {
			e.peeked = false
			model = append(slices.DeleteFunc(model, func(x *entry) bool { return x == e }), e)
		}
		// evict drops from the model until want bytes are gone.
		evict := func(want int64) (freed int64) {
			for freed < want {
				i := slices.IndexFunc(model, func(e *entry) bool { return e.refs == 0 })
				if i < 0 {
					break
				}
				e := model[i]
				if e.peeked {
					touch(e)
					continue
				}
				freed += int64(sizeOf(e.key))
				model = slices.Delete(model, i, i+1)
			}
			return freed
		}
		for step := range 4000 {
			k := Key{uint64(r.IntN(20)), uint64(r.IntN(4))}
			switch op := r.IntN(12); {
			case op < 5:
				b, err := c.Get(k, sizeOf(k))
				e := lookup(k)
				var want error
				if e == nil {
					over := bytes() + int64(sizeOf(k)) - limit
					if int64(sizeOf(k)) > limit || over > 0 && evict(over) < over {
						want = ErrFull
					} else if want = st.err(k); want == nil {
						e = &entry{key: k}
						model = append(model, e)
					}
				}
				if err != want {
					t.Fatalf("seed %d, step %d: Get(%v) fails with %v, want %v", seed, step, k, err, want)
				}
				if err == nil {
					e.refs++
					held = append(held, b)
				}
			case op < 8:
				if len(held) > 0 && (len(held) > 3 || op == 5) {
					i := r.IntN(len(held))
					b := held[i]
					held = slices.Delete(held, i, i+1)
					e := lookup(b.Key)
					if e.refs--; e.refs == 0 {
						touch(e)
					}
					c.Drop(b)
				}
			case op < 10:
				b, slot := c.Peek(k)
				e := lookup(k)
				if (b != nil) != (e != nil) {
					t.Fatalf("seed %d, step %d: Peek(%v) is %v, the model has %v", seed, step, k, b, e)
				}
				if b != nil {
					e.peeked = true
					if !right(k, b.Mem) {
						t.Fatalf("seed %d, step %d: wrong block", seed, step)
					}
					c.Done(slot)
				}
			case op == 10:
				if b := c.Find(k); b != nil {
					lookup(k).refs++
					held = append(held, b)
				} else if lookup(k) != nil {
					t.Fatalf("seed %d, step %d: %v is not found", seed, step, k)
				}
			default:
				want := int64(r.IntN(60))
				if got, model := c.Reclaim(want), evict(want); got != model {
					t.Fatalf("seed %d, step %d: Reclaim(%d) frees %d, the model %d", seed, step, want, got, model)
				}
			}
			for _, b := range held {
				if !right(b.Key, b.Mem) || b.Size() != sizeOf(b.Key) {
					t.Fatalf("seed %d, step %d: block %v, which is held, changed", seed, step, b.Key)
				}
			}
			if got := c.Stats(); got.Bytes != bytes() || got.Bytes != st.out.Load() || got.Blocks != len(model) {
				t.Fatalf("seed %d, step %d: %+v, %d bytes handed out; the model has %d blocks of %d bytes", seed, step, got, st.out.Load(), len(model), bytes())
			}
		}
		if st.most.Load() > limit {
			t.Fatalf("seed %d: %d bytes, limit %d", seed, st.most.Load(), limit)
		}
		for _, b := range held {
			c.Drop(b)
		}
		if c.Reclaim(1 << 40); st.out.Load() != 0 || c.Stats().Blocks != 0 {
			t.Fatalf("seed %d: %d bytes remain", seed, st.out.Load())
		}
	}
}

// TestPeekKeepsMemory: what is reclaimed while it is looked at goes back to the Store only afterwards, and counts until then.
func TestPeekKeepsMemory(t *testing.T) {
	st := &store{}
	c := New(st, Options{Limit: 64})
	k := Key{7, 0}
	b, err := c.Get(k, 64)
	if err != nil {
		t.Fatal(err)
	}
	c.Drop(b)
	p, slot := c.Peek(k)
	for range 2 { // the first only passes it over
		if n := c.Reclaim(64); n != 0 {
			t.Fatalf("%d bytes are reclaimed under a Peek", n)
		}
	}
	if q, _ := c.Peek(k); q != nil || c.Find(k) != nil {
		t.Fatal("a reclaimed block is found")
	}
	if !right(k, p.Mem) || c.Stats().Bytes != 64 {
		t.Fatal("the block that is looked at is gone")
	}
	if _, err := c.Get(Key{8, 0}, 64); err != ErrFull {
		t.Fatalf("Get over the limit: %v, want ErrFull", err)
	}
	later, laterSlot := c.Peek(Key{9, 0})
	if later != nil {
		t.Fatal("found what was never there")
	}
	_ = laterSlot
	c.Done(slot)
	b, err = c.Get(Key{8, 0}, 64)
	if err != nil || !right(b.Key, b.Mem) {
		t.Fatalf("after the Peek there is no room: %v", err)
	}
}

// TestPeeksRunOut: more Peeks than slots find nothing, and Get still works.
func TestPeeksRunOut(t *testing.T) {
	c := New(&store{}, Options{Limit: 1 << 10, Peeks: 4})
	b, err := c.Get(Key{1, 1}, 8)
	if err != nil {
		t.Fatal(err)
	}
	c.Drop(b)
	var slots []int
	for range 4 {
		p, slot := c.Peek(Key{1, 1})
		if p == nil {
			t.Fatal("nothing found")
		}
		slots = append(slots, slot)
	}
	if p, _ := c.Peek(Key{1, 1}); p != nil {
		t.Fatal("a fifth Peek of four")
	}
	if b := c.Find(Key{1, 1}); b == nil {
		t.Fatal("Find needs no slot")
	} else {
		c.Drop(b)
	}
	for _, s := range slots {
		c.Done(s)
	}
	if p, slot := c.Peek(Key{1, 1}); p == nil {
		t.Fatal("slots do not come back")
	} else {
		c.Done(slot)
	}
}

func TestStoreFull(t *testing.T) {
	st := &store{}
	c := New(st, Options{Limit: 1 << 10})
	st.full.Store(true)
	if _, err := c.Get(Key{1, 1}, 8); err != ErrFull {
		t.Fatalf("%v, want ErrFull", err)
	}
	st.full.Store(false)
	if b, err := c.Get(Key{1, 1}, 8); err != nil || !right(b.Key, b.Mem) {
		t.Fatal(err)
	}
}

// gate is a Store whose Load waits for the test.
type gate struct {
	store
	started, release chan struct{}
	fail             func() error
}

func (g *gate) Load(k Key, m Memory, size int) error {
	g.started <- struct{}{}
	<-g.release
	if err := g.fail(); err != nil {
		return err
	}
	return g.store.Load(k, m, size)
}

// waiting returns how many wait for the one block that is loaded.
func waiting(c *Cache) int {
	s := &c.shards[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loading == nil {
		return 0
	}
	return s.loading.refs - 1
}

// TestOneLoad: of many who miss a block at once one loads it, and all get it, or its error; the next Get loads again.
func TestOneLoad(t *testing.T) {
	bad := errors.New("bad")
	errs := []error{bad, ErrBroken, nil}
	g := &gate{started: make(chan struct{}), release: make(chan struct{})}
	c := New(g, Options{Limit: 64})
	for _, want := range errs {
		g.fail = func() error {
			if want == ErrBroken {
				panic("broken")
			}
			return want
		}
		const readers = 8
		results := make(chan error, readers)
		for range readers {
			go func() {
				defer func() {
					if recover() != nil {
						results <- ErrBroken
					}
				}()
				b, err := c.Get(Key{1, 2}, 64)
				if err == nil && !right(b.Key, b.Mem) {
					err = errors.New("wrong block")
				}
				if err == nil {
					c.Drop(b)
				}
				results <- err
			}()
		}
		<-g.started
		for waiting(c) != readers-1 {
			runtime.Gosched()
		}
		g.release <- struct{}{}
		for range readers {
			if err := <-results; err != want {
				t.Fatalf("a reader gets %v, want %v", err, want)
			}
		}
	}
	if st := c.Stats(); st.Loads != uint64(len(errs)) || st.Blocks != 1 || st.Bytes != 64 {
		t.Fatalf("%+v", st)
	}
	if b := c.Find(Key{1, 2}); b == nil || b.refs != 1 {
		t.Fatal("holds were not all dropped")
	}
}

// TestStress has readers of every kind, errors and eviction at once; the race detector and the blocks' contents judge.
func TestStress(t *testing.T) {
	bad := errors.New("bad")
	var turn atomic.Uint64
	for _, shards := range []int{1, 8} {
		st := &store{err: func(k Key) error {
			if k.ID%7 == 3 && turn.Add(1)%2 == 0 {
				return bad
			}
			return nil
		}}
		const limit = 2000
		c := New(st, Options{Limit: limit, Shards: shards, Peeks: 8})
		var wg sync.WaitGroup
		var found, full atomic.Int64
		for worker := range uint64(8) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(worker, 9))
				var held []*Block
				for range 20000 {
					k := Key{uint64(r.IntN(40)), uint64(r.IntN(4))}
					switch op := r.IntN(20); {
					case op < 9:
						if b, slot := c.Peek(k); b != nil {
							found.Add(1)
							if b.Key != k || !right(k, b.Mem) {
								t.Errorf("Peek(%v) sees another block", k)
							}
							c.Done(slot)
						}
					case op < 17:
						b, err := c.Get(k, sizeOf(k))
						if err == ErrFull {
							full.Add(1)
						} else if err == bad {
							continue
						} else if err != nil {
							t.Error(err)
						} else if held = append(held, b); r.IntN(4) == 0 {
							c.Hold(b)
							held = append(held, b)
						}
					case op == 17:
						if b := c.Find(k); b != nil {
							held = append(held, b)
						}
					case op == 18:
						c.Reclaim(int64(r.IntN(200)))
					default:
						if c.Stats().Bytes > limit {
							t.Error("over the limit")
						}
					}
					for len(held) > r.IntN(6) {
						b := held[0]
						if !right(b.Key, b.Mem) {
							t.Errorf("block %v changed while it was held", b.Key)
						}
						c.Drop(b)
						held = held[1:]
					}
				}
				for _, b := range held {
					c.Drop(b)
				}
			})
		}
		wg.Wait()
		if found.Load() == 0 || st.most.Load() > limit || c.Stats().Reclaimed == 0 {
			t.Errorf("%d shards: %d found, at most %d bytes, %+v", shards, found.Load(), st.most.Load(), c.Stats())
		}
		for range 2 { // those that were peeked at are passed over once
			c.Reclaim(1 << 40)
		}
		if st.out.Load() != 0 || c.Stats().Blocks != 0 || c.Stats().Bytes != 0 {
			t.Errorf("%d shards: %d bytes remain: %+v", shards, st.out.Load(), c.Stats())
		}
		t.Logf("%d shards: %d loads, %d found by Peek, %d full, %+v", shards, st.loads.Load(), found.Load(), full.Load(), c.Stats())
	}
}

// TestMany makes the table grow.
func TestMany(t *testing.T) {
	st := &store{}
	c := New(st, Options{Limit: 1 << 30, Shards: 4})
	for pass := range 2 {
		for i := range uint64(10000) {
			b, err := c.Get(Key{i, i >> 3}, 8)
			if err != nil || !right(b.Key, b.Mem) {
				t.Fatal(i, err)
			}
			c.Drop(b)
		}
		if n := st.loads.Load(); n != 10000 {
			t.Fatalf("pass %d: %d loads", pass, n)
		}
	}
	if st := c.Stats(); st.Blocks != 10000 {
		t.Fatalf("%+v", st)
	}
}

// TestHitsDoNotAllocate covers the ways to a block that is there.
func TestHitsDoNotAllocate(t *testing.T) {
	c := New(&store{}, Options{Limit: 1 << 20})
	k := Key{3, 4}
	if n := testing.AllocsPerRun(100, func() {
		b, err := c.Get(k, 4096)
		if err != nil {
			t.Fatal(err)
		}
		c.Hold(b)
		c.Drop(b)
		c.Drop(b)
		if b, slot := c.Peek(k); b != nil {
			c.Done(slot)
		}
		c.Drop(c.Find(k))
	}); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
}

func BenchmarkPeek(b *testing.B) {
	c := New(&store{}, Options{Limit: 1 << 30, Shards: 16, Peeks: 64})
	for i := range uint64(1024) {
		x, err := c.Get(Key{i, 0}, 64)
		if err != nil {
			b.Fatal(err)
		}
		c.Drop(x)
	}
	b.RunParallel(func(pb *testing.PB) {
		for i := uint64(0); pb.Next(); i++ {
			if x, slot := c.Peek(Key{i * 5 % 1024, 0}); x != nil {
				c.Done(slot)
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	c := New(&store{}, Options{Limit: 1 << 30, Shards: 16})
	b.RunParallel(func(pb *testing.PB) {
		for i := uint64(0); pb.Next(); i++ {
			x, err := c.Get(Key{i * 5 % 1024, 0}, 64)
			if err != nil {
				b.Fatal(err)
			}
			c.Drop(x)
		}
	})
}
