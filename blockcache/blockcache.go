// Package blockcache keeps decoded blocks in memory: those that are held for as long as they are, the others until the
// least recently used make room. Host and kernel share it: it imports only sync, starts nothing, and knows a block's
// memory, a buffer or page frames, only by the Store that it is given.
//
// Looking a block up takes no lock (Peek), or that of one shard (Find, Get, Drop). What was reclaimed is given back to the
// Store when every Peek that may still see it is done, which epochs tell: each Peek notes in a slot the epoch in which it
// began, each reclaim begins a new one, and a block that was reclaimed waits until no slot has an epoch as old. See
// docs/block-cache.md.
package blockcache

import (
	"sync"
	"sync/atomic"
)

// Error is an error of the cache itself, none of the Store's.
type Error string

// Error implements error.
func (e Error) Error() string { return string(e) }

const (
	// ErrFull says that the block is not in the cache and finds no room there: all the others are in use. It can still be
	// decoded elsewhere.
	ErrFull = Error("block cache: all blocks are in use")
	// ErrBroken is what those get who waited for a Load that panicked.
	ErrBroken = Error("block cache: reading the block was broken off")
)

// Key names a block. What the two numbers are is its owner's choice.
type Key struct{ ID, Sub uint64 }

func (k Key) hash() uint64 {
	h := (k.ID*0x9e3779b97f4a7c15 ^ k.Sub) * 0xd6e8feb86659fd93
	return h ^ h>>32
}

// Memory is where a block is, in the way of its Store: a buffer, or what a kernel knows its pages by.
type Memory struct {
	Bytes  []byte
	Frames uint64
}

// Store makes blocks and has their memory. Several goroutines call it at once if they do so with the cache.
type Store interface {
	// Alloc returns memory for size bytes, !ok when there is none. It may call Reclaim, and nothing else of the cache.
	Alloc(size int) (m Memory, ok bool)
	// Free takes it back. It must not call the cache.
	Free(m Memory, size int)
	// Load makes the block k in m. After an error m holds nothing of worth, and the next Get tries again.
	Load(k Key, m Memory, size int) error
}

// Options are for New.
type Options struct {
	// Limit is how many bytes the blocks may take, those that are held or wait for readers counted. It is never exceeded.
	Limit int64
	// Shards is how many parts with a lock and an LRU of their own the cache has, a power of two up to 256; 0 is 1, where
	// the order of use is exact.
	Shards int
	// Peeks is how many can be under way at once, a power of two; others find nothing. 0 is 4.
	Peeks int
}

// Cache is safe for concurrent use if its Store is.
type Cache struct {
	store  Store
	limit  int64
	bytes  atomic.Int64
	epoch  atomic.Uint64 // from 1
	hand   atomic.Uint32 // the shard in which reclaiming goes on
	shards []shard
	slots  []slot
}

// slot is the epoch in which a Peek began, 0 while it is free. It has a cache line to itself.
type slot struct {
	epoch atomic.Uint64
	_     [56]byte
}

type shard struct {
	mu      sync.Mutex
	table   atomic.Pointer[[]atomic.Pointer[Block]] // chains by hash; a power of two
	count   int                                     // in the table
	lru     Block                                   // ring of the blocks in the table that nobody holds: lru.newer is the oldest
	loading *Block                                  // chained by older
	limbo   *Block                                  // reclaimed, waiting for Peeks to end; chained by older, newest first
	spare   *Block                                  // headers to use again, chained by older
	loads   uint64
	gone    uint64
	_       [64]byte
}

// Block is a block in memory. Key and Mem are constant while it is held or peeked at.
type Block struct {
	Key          Key
	Mem          Memory
	next         atomic.Pointer[Block] // in the chain; stays when the block leaves it, for those who are at it
	older, newer *Block
	hash         uint64
	epoch        uint64 // in which it was reclaimed
	size         int
	refs         int           // holds; of one that is loaded, those to come
	peeked       atomic.Uint32 // 1: since it went to the LRU or was passed over
	wait         chan struct{} // closed when it is loaded; nil while nobody waits
	err          error
}

// Size returns the size that Get was called with, in bytes.
func (b *Block) Size() int { return b.size }

// New returns an empty cache.
func New(store Store, o Options) *Cache {
	c := &Cache{store: store, limit: o.Limit, shards: make([]shard, max(o.Shards, 1)), slots: make([]slot, max(o.Peeks, 4))}
	if len(c.shards)&(len(c.shards)-1) != 0 || len(c.shards) > 256 || len(c.slots)&(len(c.slots)-1) != 0 {
		panic("blockcache: shards and peeks are powers of two")
	}
	c.epoch.Store(1)
	for i := range c.shards {
		s := &c.shards[i]
		s.lru.older, s.lru.newer = &s.lru, &s.lru
		t := make([]atomic.Pointer[Block], 32)
		s.table.Store(&t)
	}
	return c
}

func (c *Cache) shard(hash uint64) *shard {
	return &c.shards[hash>>24&uint64(len(c.shards)-1)]
}

// find needs the lock, or a slot; with a slot it may miss a block that is there.
func (s *shard) find(k Key, hash uint64) *Block {
	t := *s.table.Load()
	b := t[hash&uint64(len(t)-1)].Load()
	for b != nil && b.Key != k {
		b = b.next.Load()
	}
	return b
}

// hold needs the lock.
func (s *shard) hold(b *Block) {
	if b.refs == 0 {
		b.older.newer, b.newer.older = b.newer, b.older
		b.older, b.newer = nil, nil
	}
	b.refs++
}

// release puts b, which nobody holds, at the new end of the LRU.
func (s *shard) release(b *Block) {
	b.peeked.Store(0)
	b.older, b.newer = s.lru.older, &s.lru
	b.older.newer, s.lru.older = b, b
}

// insert needs the lock.
func (s *shard) insert(b *Block) {
	t := *s.table.Load()
	if s.count++; s.count > 2*len(t) {
		grown := make([]atomic.Pointer[Block], 4*len(t))
		for i := range t {
			for at := t[i].Load(); at != nil; {
				next := at.next.Load()
				head := &grown[at.hash&uint64(len(grown)-1)]
				at.next.Store(head.Load()) // a Peek may stray into another chain and miss what it looks for
				head.Store(at)
				at = next
			}
		}
		s.table.Store(&grown)
		t = grown
	}
	head := &t[b.hash&uint64(len(t)-1)]
	b.next.Store(head.Load())
	head.Store(b)
}

// Peek returns the block k if it is in memory, for a short look: call Done with the slot afterwards. Nil needs no Done, and
// may mean too that it could not be told without waiting.
func (c *Cache) Peek(k Key) (b *Block, slot int) {
	hash := k.hash()
	slot = int(hash>>16) & (len(c.slots) - 1)
	for try := 0; !c.slots[slot].epoch.CompareAndSwap(0, c.epoch.Load()); try++ {
		if try == 3 {
			return nil, 0
		}
		slot = (slot + 1) & (len(c.slots) - 1)
	}
	if b = c.shard(hash).find(k, hash); b == nil {
		c.slots[slot].epoch.Store(0)
	} else if b.peeked.Load() == 0 {
		b.peeked.Store(1)
	}
	return b, slot
}

// Done ends a Peek.
func (c *Cache) Done(slot int) { c.slots[slot].epoch.Store(0) }

// Find returns the block k, held, if it is in memory, else nil.
func (c *Cache) Find(k Key) *Block {
	hash := k.hash()
	s := c.shard(hash)
	s.mu.Lock()
	b := s.find(k, hash)
	if b != nil {
		s.hold(b)
	}
	s.mu.Unlock()
	return b
}

// Hold holds b, which the caller holds, once more.
func (c *Cache) Hold(b *Block) {
	s := c.shard(b.hash)
	s.mu.Lock()
	s.hold(b)
	s.mu.Unlock()
}

// HoldN is Hold n times; of no block if n is 0.
func (c *Cache) HoldN(b *Block, n int) {
	if n == 0 {
		return
	}
	s := c.shard(b.hash)
	s.mu.Lock()
	s.hold(b)
	b.refs += n - 1
	s.mu.Unlock()
}

// Drop ends one hold of b.
func (c *Cache) Drop(b *Block) {
	s := c.shard(b.hash)
	s.mu.Lock()
	if b.refs--; b.refs == 0 {
		s.release(b)
	}
	refs := b.refs
	s.mu.Unlock()
	if refs < 0 {
		panic("blockcache: Drop of a block that is not held")
	}
}

// Get returns the block k of that many bytes, held. Of several who miss it at once, one loads it and the others wait; if
// that fails they all get the error, and the next Get tries again. It fails with ErrFull or with Load's error.
func (c *Cache) Get(k Key, size int) (*Block, error) {
	hash := k.hash()
	s := c.shard(hash)
	s.mu.Lock()
	if b := s.find(k, hash); b != nil {
		s.hold(b)
		s.mu.Unlock()
		return b, nil
	}
	for b := s.loading; b != nil; b = b.older {
		if b.Key != k {
			continue
		}
		b.refs++
		if b.wait == nil {
			b.wait = make(chan struct{})
		}
		wait := b.wait
		s.mu.Unlock()
		<-wait
		if b.err != nil {
			return nil, b.err
		}
		return b, nil
	}
	if s.spare == nil {
		more := make([]Block, 8)
		for i := range more {
			more[i].older, s.spare = s.spare, &more[i]
		}
	}
	b := s.spare
	s.spare = b.older
	b.Key, b.hash, b.size, b.refs = k, hash, size, 1
	b.older, s.loading = s.loading, b
	s.loads++
	s.mu.Unlock()
	if err := c.load(s, b); err != nil {
		return nil, err
	}
	return b, nil
}

// load makes the block b, which is among those that are loaded, and puts it into the table.
func (c *Cache) load(s *shard, b *Block) (err error) {
	var m Memory
	size, reserved, have := b.size, false, false
	err = ErrBroken
	defer func() {
		if err != nil && have {
			c.store.Free(m, size)
		}
		if err != nil && reserved {
			c.bytes.Add(-int64(size))
		}
		s.mu.Lock()
		at := &s.loading
		for *at != b {
			at = &(*at).older
		}
		*at, b.older = b.older, nil
		wait := b.wait
		if err == nil {
			b.Mem, b.wait = m, nil
			b.peeked.Store(0)
			s.insert(b)
		} else if b.err = err; wait == nil { // those who wait look at b.err
			s.discard(b)
		}
		s.mu.Unlock()
		if wait != nil {
			close(wait)
		}
	}()
	if reserved = c.reserve(int64(size)); !reserved {
		return ErrFull
	}
	if m, have = c.store.Alloc(size); !have {
		return ErrFull
	}
	return c.store.Load(b.Key, m, size)
}

// discard keeps the header of b, which has no key from then on, for another block. It needs the lock.
func (s *shard) discard(b *Block) {
	var none Memory
	b.Key, b.Mem, b.err, b.wait, b.refs, b.newer = Key{}, none, nil, nil, 0, nil
	b.older, s.spare = s.spare, b
}

// reserve adds size to the bytes of the cache, reclaiming others if that is what it needs.
func (c *Cache) reserve(size int64) bool {
	for {
		now := c.bytes.Load()
		if over := now + size - c.limit; over <= 0 {
			if c.bytes.CompareAndSwap(now, now+size) {
				return true
			}
		} else if size > c.limit || c.Reclaim(over) == 0 && c.bytes.Load() >= now {
			return false
		}
	}
}

// Reclaim gives blocks that nobody holds back to the Store, the least recently used first, until that is want bytes or there
// are no more, and returns how many bytes that was.
func (c *Cache) Reclaim(want int64) (freed int64) {
	for idle := 0; freed < want && idle < len(c.shards); {
		s := &c.shards[int(c.hand.Add(1))&(len(c.shards)-1)]
		n := c.reclaimFrom(s, want-freed)
		freed += n
		if idle++; n > 0 {
			idle = 0
		}
	}
	return freed
}

// reclaimFrom takes the oldest block of a shard, or all that is wanted if there is only this shard, and what in it waits.
func (c *Cache) reclaimFrom(s *shard, want int64) (freed int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if freed = c.collect(s); freed >= want {
		return freed
	}
	taken := freed
	for {
		b := s.lru.newer
		if b == &s.lru {
			break
		}
		b.older.newer, b.newer.older = b.newer, b.older
		if b.peeked.Load() != 0 { // once more to the new end, as its last use was not noted there
			s.release(b)
			continue
		}
		t := *s.table.Load()
		at := &t[b.hash&uint64(len(t)-1)]
		for at.Load() != b {
			at = &at.Load().next
		}
		at.Store(b.next.Load()) // b.next stays, for a Peek that is at b
		s.count--
		s.gone++
		b.epoch = c.epoch.Load()
		b.older, s.limbo = s.limbo, b
		if taken += int64(b.size); taken >= want || len(c.shards) > 1 {
			break
		}
	}
	if taken > freed {
		c.epoch.Add(1)
		freed += c.collect(s)
	}
	return freed
}

// collect frees what was reclaimed before the oldest Peek began. It needs the lock.
func (c *Cache) collect(s *shard) (freed int64) {
	if s.limbo == nil {
		return 0
	}
	oldest := c.epoch.Load()
	for i := range c.slots {
		if e := c.slots[i].epoch.Load(); e != 0 {
			oldest = min(oldest, e)
		}
	}
	for at := &s.limbo; *at != nil; {
		b := *at
		if b.epoch >= oldest {
			at = &b.older
			continue
		}
		*at = b.older
		c.store.Free(b.Mem, b.size)
		freed += int64(b.size)
		s.discard(b)
	}
	c.bytes.Add(-freed)
	return freed
}

// Stats are counts of a cache.
type Stats struct {
	Bytes            int64 // of blocks, in the table or about to be, or waiting for Peeks to end
	Blocks           int   // in the table
	Loads, Reclaimed uint64
}

// Stats counts. While others use the cache the parts need not fit together.
func (c *Cache) Stats() Stats {
	st := Stats{Bytes: c.bytes.Load()}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		st.Blocks += s.count
		st.Loads += s.loads
		st.Reclaimed += s.gone
		s.mu.Unlock()
	}
	return st
}
