package symbols

import (
	"cmp"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/ianlancetaylor/demangle"
)

// symbol is a named address.
type symbol struct {
	addr, size uint64 // size 0: not known
	limit      uint64 // that a symbol of unknown size cannot reach beyond: the end of its section
	name       string
	rank       int // of two symbols at one address that of the higher rank is shown
}

// table finds symbols by address and by name.
type table struct {
	symbols []symbol // by address
	spans   []span   // by start; each reaches to the next

	names     func() []int32          // indexes of symbols, by name
	demangled func() map[string]int32 // those whose name is mangled
}

// span is a range of addresses that belongs to one symbol.
type span struct {
	start  uint64
	symbol int32 // -1: to none
}

func newTable(symbols []symbol) *table {
	slices.SortStableFunc(symbols, func(a, b symbol) int {
		if c := cmp.Compare(a.addr, b.addr); c != 0 {
			return c
		}
		if c := cmp.Compare(a.rank, b.rank); c != 0 {
			return c
		}
		if c := cmp.Compare(leadingUnderscores(b.name), leadingUnderscores(a.name)); c != 0 {
			return c
		}
		return cmp.Compare(b.name, a.name)
	})
	t := &table{symbols: symbols}
	t.spans = spansOf(symbols)
	t.names = sync.OnceValue(func() []int32 {
		names := make([]int32, len(t.symbols))
		for i := range names {
			names[i] = int32(i)
		}
		slices.SortStableFunc(names, func(a, b int32) int { return strings.Compare(t.symbols[a].name, t.symbols[b].name) })
		return names
	})
	t.demangled = sync.OnceValue(func() map[string]int32 {
		m := map[string]int32{}
		for i := range t.symbols {
			if name := t.symbols[i].name; isMangled(name) {
				d := demangled(name)
				if _, ok := m[d]; !ok {
					m[d] = int32(i)
				}
			}
		}
		return m
	})
	return t
}

func leadingUnderscores(name string) int { return len(name) - len(strings.TrimLeft(name, "_")) }

// spansOf says which symbol each address belongs to. Of symbols with a size that one within another hides it. Symbols without
// reach to the next symbol, but only where none with a size is: labels within a function do not cut it up.
func spansOf(symbols []symbol) []span {
	spans := make([]span, 0, len(symbols)+len(symbols)/4)
	set := func(at uint64, symbol int32) {
		if n := len(spans); n > 0 && spans[n-1].start == at {
			spans[n-1].symbol = symbol
			return
		}
		spans = append(spans, span{at, symbol})
	}
	var open []int32 // symbols with a size that cover the address, the innermost last
	label := int32(-1)
	limit := func(i int32) uint64 {
		s := &symbols[i]
		if s.size > 0 {
			if end := s.addr + s.size; end >= s.addr {
				return end
			}
			return ^uint64(0)
		}
		return s.limit
	}
	// leave ends what ends at or before an address.
	leave := func(at uint64) {
		for len(open) > 0 && limit(open[len(open)-1]) <= at {
			end := limit(open[len(open)-1])
			open = open[:len(open)-1]
			// What ends later but was opened earlier still stands; what ended earlier hides nothing.
			for len(open) > 0 && limit(open[len(open)-1]) <= end {
				open = open[:len(open)-1]
			}
			if len(open) > 0 {
				set(end, open[len(open)-1])
			} else {
				set(end, -1)
			}
		}
		if label >= 0 && limit(label) <= at {
			if len(open) == 0 {
				set(limit(label), -1)
			}
			label = -1
		}
	}
	for i := range symbols {
		s := &symbols[i]
		leave(s.addr)
		switch {
		case s.size > 0:
			open = append(open, int32(i))
			label = -1
			set(s.addr, int32(i))
		case len(open) == 0 && s.limit > s.addr:
			label = int32(i)
			set(s.addr, int32(i))
		}
	}
	leave(^uint64(0))
	return spans
}

// at returns the symbol that covers an address, nil if none does.
func (t *table) at(addr uint64) *symbol {
	i := sort.Search(len(t.spans), func(i int) bool { return t.spans[i].start > addr }) - 1
	if i < 0 || t.spans[i].symbol < 0 {
		return nil
	}
	return &t.symbols[t.spans[i].symbol]
}

// find returns a symbol by its name, or by its demangled name. Go functions of the older calling convention have two names.
func (t *table) find(name string) *symbol {
	if s := t.findExact(name); s != nil {
		return s
	}
	if s := t.findExact(name + ".abi0"); s != nil {
		return s
	}
	if i, ok := t.demangled()[name]; ok {
		return &t.symbols[i]
	}
	return nil
}

func (t *table) findExact(name string) *symbol {
	names := t.names()
	// Of several symbols of one name that of the highest rank counts, then the first.
	var found *symbol
	for i := t.firstName(name); i < len(names) && t.symbols[names[i]].name == name; i++ {
		if s := &t.symbols[names[i]]; found == nil || s.rank > found.rank {
			found = s
		}
	}
	return found
}

func (t *table) firstName(prefix string) int {
	names := t.names()
	return sort.Search(len(names), func(i int) bool { return t.symbols[names[i]].name >= prefix })
}

// withPrefix returns the names that start with prefix, as they are and demangled, each once, sorted.
func (t *table) withPrefix(prefix string) []string {
	var found []string
	names := t.names()
	for _, i := range names[t.firstName(prefix):] {
		name := t.symbols[i].name
		if !strings.HasPrefix(name, prefix) {
			break
		}
		found = append(found, name)
	}
	for name := range t.demangled() {
		if strings.HasPrefix(name, prefix) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// sizeOf is a symbol's size, or how far it is to what comes next.
func (t *table) sizeOf(s *symbol) uint64 {
	if s.size > 0 {
		return s.size
	}
	limit := s.limit
	i := sort.Search(len(t.symbols), func(i int) bool { return t.symbols[i].addr > s.addr })
	if i < len(t.symbols) && t.symbols[i].addr < limit {
		limit = t.symbols[i].addr
	}
	if limit < s.addr {
		return 0
	}
	return limit - s.addr
}

func isMangled(name string) bool {
	return strings.HasPrefix(name, "_Z") || strings.HasPrefix(name, "_R") || strings.HasPrefix(name, "___Z")
}

// demangled returns a C++ or Rust name as it is written in a program, without parameters, and any other name as it is.
func demangled(name string) string {
	if !isMangled(name) || len(name) > 1<<14 {
		return name
	}
	// The length of what a mangled name stands for can be exponential in its own: 2^12 bytes tell any function from another.
	return demangle.Filter(name, demangle.NoParams, demangle.MaxLength(12))
}
