// Package nvlist packs and unpacks name-value lists in XDR, as ZFS keeps its configuration. Sources: module/nvpair/nvpair.c and
// include/sys/nvpair.h of OpenZFS 2.1; RFC 4506.
package nvlist

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Data types (data_type_t) that are known here.
const (
	typeBoolean     = 1
	typeUint64      = 8
	typeString      = 9
	typeUint64Array = 16
	typeNvlist      = 19
	typeNvlistArray = 20
	typeBooleanVal  = 21
	typeByteArray   = 10
	typeInt64       = 7
	typeUint32      = 6
)

// Pair is a name with its value: a uint64, string, []uint64, []byte, bool, List, []List, or nil, which is a name alone.
type Pair struct {
	Name  string
	Value any
}

// List keeps its order.
type List []Pair

// Get returns a value, nil when the name is not there.
func (l List) Get(name string) any {
	for _, p := range l {
		if p.Name == name {
			return p.Value
		}
	}
	return nil
}

// Uint64 returns a number; false means that there is none of the name.
func (l List) Uint64(name string) (uint64, bool) {
	v, ok := l.Get(name).(uint64)
	return v, ok
}

// String returns a string, "" when there is none of the name.
func (l List) String(name string) string {
	s, _ := l.Get(name).(string)
	return s
}

// List returns a list, nil when there is none of the name.
func (l List) List(name string) List {
	v, _ := l.Get(name).(List)
	return v
}

// Pack returns the list in XDR with the header that says so. It panics on a value of another type, which is its caller's mistake.
func Pack(l List) []byte {
	return appendList([]byte{1, 1, 0, 0}, l) // XDR, made on a little-endian machine
}

func appendList(b []byte, l List) []byte {
	b = binary.BigEndian.AppendUint32(b, 0) // version
	b = binary.BigEndian.AppendUint32(b, 1) // names are unique
	for _, p := range l {
		b = appendPair(b, p)
	}
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0)
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	b = append(b, s...)
	return append(b, make([]byte, -len(s)&3)...)
}

func appendPair(b []byte, p Pair) []byte {
	start := len(b)
	b = append(b, make([]byte, 8)...) // sizes
	b = appendString(b, p.Name)
	typ, n, decoded := 0, 1, 0
	switch v := p.Value.(type) {
	case nil:
		typ, n = typeBoolean, 0
	case uint64:
		typ, decoded = typeUint64, 8
	case string:
		typ, decoded = typeString, len(v)+1
	case []uint64:
		typ, n, decoded = typeUint64Array, len(v), 8*len(v)
	case []byte:
		typ, n, decoded = typeByteArray, len(v), len(v)
	case bool:
		typ, decoded = typeBooleanVal, 4
	case List:
		typ, decoded = typeNvlist, 24
	case []List:
		typ, n, decoded = typeNvlistArray, len(v), (8+24)*len(v)
	default:
		panic(fmt.Sprintf("nvlist: %s has a value of type %T", p.Name, p.Value))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(typ))
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	switch v := p.Value.(type) {
	case uint64:
		b = binary.BigEndian.AppendUint64(b, v)
	case string:
		b = appendString(b, v)
	case []uint64:
		for _, w := range v {
			b = binary.BigEndian.AppendUint64(b, w)
		}
	case []byte:
		b = append(b, v...)
		b = append(b, make([]byte, -len(v)&3)...)
	case bool:
		w := uint32(0)
		if v {
			w = 1
		}
		b = binary.BigEndian.AppendUint32(b, w)
	case List:
		b = appendList(b, v)
	case []List:
		for _, l := range v {
			b = appendList(b, l)
		}
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start))
	// What it takes in memory, each part aligned to 8 bytes: a header of 16, the name, the value.
	binary.BigEndian.PutUint32(b[start+4:], uint32((16+len(p.Name)+1+7)&^7+(decoded+7)&^7))
	return b
}

// ErrDamaged is wrapped by what Unpack returns for bytes that are no list.
var ErrDamaged = errors.New("damaged name-value list")

// A reader takes bytes from the front, and remembers that there were too few.
type reader struct {
	p   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.p) {
		r.bad = true
		return nil
	}
	p := r.p[:n]
	r.p = r.p[n:]
	return p
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// padded takes n bytes and what fills them up to a multiple of 4.
func (r *reader) padded(n uint32) []byte {
	if uint64(n) > uint64(len(r.p)) {
		r.bad = true
		return nil
	}
	p := r.take(int(n))
	r.take(-int(n) & 3)
	return p
}

const maxDepth = 20

// Unpack reads a list with its header. Values of types that Pair does not name are left out. What follows the list is ignored.
func Unpack(p []byte) (List, error) {
	if len(p) < 4 || p[0] != 1 {
		return nil, fmt.Errorf("%w: not in XDR", ErrDamaged)
	}
	r := reader{p: p[4:]}
	l := r.list(0)
	if r.bad {
		return nil, fmt.Errorf("%w: it ends early", ErrDamaged)
	}
	return l, nil
}

func (r *reader) list(depth int) (l List) {
	if depth > maxDepth {
		r.bad = true
		return nil
	}
	r.take(8)
	for !r.bad {
		before := len(r.p)
		size, decoded := r.u32(), r.u32()
		if r.bad || size == 0 && decoded == 0 {
			return l
		}
		name := string(r.padded(r.u32()))
		typ, n := r.u32(), r.u32()
		if r.bad {
			return nil
		}
		switch typ {
		case typeBoolean:
			l = append(l, Pair{name, nil})
		case typeUint64, typeInt64:
			l = append(l, Pair{name, r.u64()})
		case typeUint32:
			l = append(l, Pair{name, uint64(r.u32())})
		case typeString:
			l = append(l, Pair{name, string(r.padded(r.u32()))})
		case typeBooleanVal:
			l = append(l, Pair{name, r.u32() != 0})
		case typeByteArray:
			l = append(l, Pair{name, append([]byte{}, r.padded(n)...)})
		case typeUint64Array:
			if uint64(n)*8 > uint64(len(r.p)) {
				r.bad = true
				return nil
			}
			v := make([]uint64, n)
			for i := range v {
				v[i] = r.u64()
			}
			l = append(l, Pair{name, v})
		case typeNvlist:
			l = append(l, Pair{name, r.list(depth + 1)})
		case typeNvlistArray:
			var v []List
			for ; n > 0 && !r.bad; n-- {
				v = append(v, r.list(depth+1))
			}
			l = append(l, Pair{name, v})
		default:
			used := before - len(r.p)
			if int64(size) < int64(used) {
				r.bad = true
				return nil
			}
			r.take(int(size) - used)
		}
	}
	return nil
}
