package symbols

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// kallsyms are the tables by which a Linux kernel names its own functions; a stripped kernel has them still, but nothing says
// where. scripts/kallsyms.c of Linux 4.0 to 6.18 writes them, each 8-byte aligned, in one of these orders:
//
//	to 6.3:   addresses (or offsets, relative_base)  num_syms  names  markers  [seqs_of_names]  token_table  token_index
//	from 6.4: num_syms  names  markers  token_table  token_index  addresses (or offsets, relative_base)  [seqs_of_names]
//
// token_table has 256 strings, and token_index where each starts. A name is its length and so many tokens; what they stand for
// is the symbol's type and name. markers has the offset of every 256th name. Addresses are 64-bit, or (from 4.6) 32-bit offsets
// from relative_base; or, when per-CPU symbols are absolute, offsets from 0 on stand for themselves and negative ones for
// relative_base - 1 - offset.
const (
	kallsymsAlign     = 8
	kallsymsMarkEvery = 256
	kallsymsMin       = 64 // symbols; fewer are taken for an accident
	kallsymsMax       = 1 << 22
	kallsymsMaxTokens = 256 << 6 // bytes of the token table
	kallsymsMaxName   = 2048     // four times what the kernel allows
)

// kallsyms finds and decodes the tables in b, the bytes at address base of a kernel. inText tells which addresses are code.
// It returns nil if there are none.
func kallsyms(b []byte, base uint64, inText func(uint64) bool) ([]symbol, error) {
	var first error
	digits := []byte("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00")
	for off := 0; ; off++ {
		i := bytes.Index(b[off:], digits)
		if i < 0 {
			return nil, first
		}
		off += i
		k := kallsymsTables{b: b, base: base, inText: inText}
		if !k.findTokens(off) {
			continue
		}
		if symbols, err := k.decode(); err == nil {
			return symbols, nil
		} else if first == nil {
			first = err
		}
	}
}

type kallsymsTables struct {
	b      []byte
	base   uint64
	inText func(uint64) bool

	tokens           [256]string
	tokenTable, next int // offsets of the token table, and of what follows the token index

	num, names int // offset of num_syms and of the names
	n          int
}

func alignUp(n int) int { return (n + kallsymsAlign - 1) &^ (kallsymsAlign - 1) }

// findTokens finds the token table around the tokens for the ten digits, which are at an offset and stand for themselves. The
// index behind the table proves it.
func (k *kallsymsTables) findTokens(digits int) bool {
	le := binary.LittleEndian
	end := digits
	for range 256 - '0' {
		i := bytes.IndexByte(k.b[end:min(len(k.b), end+kallsymsMaxTokens)], 0)
		if i < 0 {
			return false
		}
		end += i + 1
	}
	for index := alignUp(end); index <= alignUp(end)+256 && index+512 <= len(k.b); index += kallsymsAlign {
		start := digits - int(le.Uint16(k.b[index+2*'0':]))
		if start < 0 || le.Uint16(k.b[index:]) != 0 || (start%kallsymsAlign) != 0 {
			continue
		}
		at := start
		ok := true
		for i := range 256 {
			token := k.b[at:end]
			n := bytes.IndexByte(token, 0)
			if n < 0 || at-start != int(le.Uint16(k.b[index+2*i:])) {
				ok = false
				break
			}
			k.tokens[i] = string(token[:n])
			at += n + 1
			if at == end && i < 255 {
				ok = false
				break
			}
		}
		if ok && at == end {
			k.tokenTable, k.next = start, alignUp(index+512)
			return true
		}
	}
	return false
}

// nameAt returns the tokens of the name at an offset, and where the next one is. Names of 128 tokens and more have a length of
// two bytes since Linux 6.1.
func (k *kallsymsTables) nameAt(at int) (tokens []byte, next int) {
	if at >= k.tokenTable {
		return nil, -1
	}
	n := int(k.b[at])
	at++
	if n&0x80 != 0 {
		if at >= k.tokenTable {
			return nil, -1
		}
		n = n&0x7f | int(k.b[at])<<7
		at++
	}
	if n == 0 || at+n > k.tokenTable {
		return nil, -1
	}
	return k.b[at : at+n], at + n
}

// findNames finds the names, before the token table, by their number before them and their markers behind them.
func (k *kallsymsTables) findNames() bool {
	le := binary.LittleEndian
	for num := k.tokenTable - kallsymsAlign; num >= 0; num -= kallsymsAlign {
		// The number is a 32-bit word and padding, or a 64-bit one.
		n := le.Uint64(k.b[num:])
		if n < kallsymsMin || n > kallsymsMax {
			continue
		}
		names := num + kallsymsAlign
		if room := k.tokenTable - names; int(n) > room/2 || !k.plausible(names) {
			continue
		}
		k.num, k.names, k.n = num, names, int(n)
		if k.checkMarkers() {
			return true
		}
	}
	return false
}

// plausible tells whether the first names at an offset look like names.
func (k *kallsymsTables) plausible(at int) bool {
	for range 16 {
		tokens, next := k.nameAt(at)
		if next < 0 {
			return false
		}
		first := k.tokens[tokens[0]]
		if first == "" || !strings.Contains("aAbBcCdDgGiInNpPrRsStTuUvVwW", first[:1]) {
			return false
		}
		at = next
	}
	return true
}

// checkMarkers walks all names and compares the markers behind them, which are 32-bit words, 64-bit ones before Linux 4.20.
func (k *kallsymsTables) checkMarkers() bool {
	var starts []int
	at := k.names
	for i := range k.n {
		if i%kallsymsMarkEvery == 0 {
			starts = append(starts, at-k.names)
		}
		if _, at = k.nameAt(at); at < 0 {
			return false
		}
	}
	le := binary.LittleEndian
	at = alignUp(at)
	for _, size := range []int{4, 8} {
		ok := at+size*len(starts) <= k.tokenTable
		for i := 0; ok && i < len(starts); i++ {
			v := uint64(le.Uint32(k.b[at+size*i:]))
			if size == 8 {
				v = le.Uint64(k.b[at+size*i:])
			}
			ok = v == uint64(starts[i])
		}
		if ok {
			return true
		}
	}
	return false
}

func (k *kallsymsTables) decode() ([]symbol, error) {
	bad := func(at int, field, format string, args ...any) ([]symbol, error) {
		return nil, &FormatError{"kallsyms", int64(at), field, fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)}
	}
	if !k.findNames() {
		return bad(k.tokenTable, "names", "there is a token table, but no names that go with it")
	}
	address := k.findAddresses()
	if address == nil {
		return bad(k.num, "addresses", "%d names, but no addresses that go with them", k.n)
	}

	var text strings.Builder // all names, which the symbols share
	type name struct{ start, end int }
	names := make([]name, k.n)
	at := k.names
	for i := range names {
		var tokens []byte
		tokens, at = k.nameAt(at)
		start := text.Len()
		for _, t := range tokens {
			if text.Len()-start < kallsymsMaxName {
				text.WriteString(k.tokens[t])
			}
		}
		names[i] = name{start, text.Len()}
		if text.Len() > maxTable {
			return nil, &FormatError{"kallsyms", int64(at), "names", ErrTooLarge}
		}
	}
	all := text.String()
	symbols := make([]symbol, 0, k.n)
	for i, n := range names {
		s := all[n.start:n.end]
		if len(s) < 2 {
			continue
		}
		sym := symbol{addr: address(i), name: s[1:], limit: ^uint64(0)}
		switch s[0] {
		case 'A', 'a':
			continue // a number, or an offset into per-CPU memory
		case 'T', 'W':
			sym.rank = 6
		case 't', 'w':
			sym.rank = 4
		case 'D', 'B', 'R', 'V':
			sym.rank = 2
		}
		symbols = append(symbols, sym)
	}
	return symbols, nil
}

// findAddresses returns the addresses of the symbols. Which of the layouts is right shows: symbols are sorted by address, and
// their functions lie in code.
func (k *kallsymsTables) findAddresses() func(i int) uint64 {
	le := binary.LittleEndian
	word := func(at int) uint64 {
		if at < 0 || at+8 > len(k.b) {
			return 0
		}
		return le.Uint64(k.b[at:])
	}
	var candidates []func(i int) uint64
	offsets := func(at int, base uint64) {
		if at < 0 || at+4*k.n > len(k.b) {
			return
		}
		b := k.b[at:]
		candidates = append(candidates, func(i int) uint64 {
			if off := int32(le.Uint32(b[4*i:])); off < 0 {
				return base - 1 - uint64(int64(off))
			} else {
				return uint64(off)
			}
		}, func(i int) uint64 {
			return base + uint64(le.Uint32(b[4*i:]))
		})
	}
	addresses := func(at int) {
		if at < 0 || at+8*k.n > len(k.b) {
			return
		}
		b := k.b[at:]
		candidates = append(candidates, func(i int) uint64 { return le.Uint64(b[8*i:]) })
	}
	// Of the older order, then of the newer one.
	offsets(k.num-8-alignUp(4*k.n), word(k.num-8))
	addresses(k.num - 8*k.n)
	offsets(k.next, word(k.next+alignUp(4*k.n)))
	addresses(k.next)
	for _, address := range candidates {
		if k.checkAddresses(address) {
			return address
		}
	}
	return nil
}

func (k *kallsymsTables) checkAddresses(address func(i int) uint64) bool {
	at, last := k.names, uint64(0)
	functions, inText := 0, 0
	for i := range k.n {
		addr := address(i)
		if addr < last {
			return false
		}
		last = addr
		var tokens []byte
		tokens, at = k.nameAt(at)
		if t := k.tokens[tokens[0]]; t != "" && (t[0] == 'T' || t[0] == 't') {
			functions++
			if k.inText(addr) {
				inText++
			}
		}
	}
	return functions > 0 && inText >= functions/10*9
}
