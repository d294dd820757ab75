// Package guestmem says what a guest's physical memory holds, as it was left by a boot: which touched pages are full of zeros
// or equal to others, which are page tables, and at which virtual addresses the rest was mapped. It needs nothing from the
// guest, not even its registers: page tables are known by what they translate.
package guestmem

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
)

// PageSize is the size of a page, in bytes, and the unit of all addresses here.
const PageSize = 4096

// Source is a guest's physical memory. *qemu.VM is one.
type Source interface {
	io.ReaderAt
	// Touched calls f for each touched range of whole pages, in order.
	Touched(f func(addr, size int64)) error
}

// Sum tells contents apart within a process: 128 bits, by keys of its own. The zero Sum is that of a page of
// zeros.
type Sum [2]uint64

// Three times as fast as SHA-256 of one page after the other, and a guest cannot aim at keys that it does not know.
var keys = [len(Sum{})]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

var zeros [PageSize]byte

// SumOf returns the sum of a page's content.
func SumOf(page []byte) Sum {
	if string(page) == string(zeros[:min(len(page), PageSize)]) {
		return Sum{}
	}
	return Sum{maphash.Bytes(keys[0], page), maphash.Bytes(keys[1], page)}
}

// Page is a touched page.
type Page struct {
	Addr uint64 // physical
	Sum  Sum
}

// Memory is a guest's memory after a boot.
type Memory struct {
	src   Source
	Pages []Page // those that were touched, in the order of their addresses
}

// MaxPages bounds the touched pages that are looked at: 16 GiB.
const MaxPages = 1 << 22

// chunk is how much is read at once.
const chunk = 1 << 20

// ErrMemory is a guest's memory that makes no sense.
var ErrMemory = errors.New("the guest's memory cannot be told")

// Read reads all touched pages.
func Read(src Source) (*Memory, error) {
	m := &Memory{src: src}
	buf := make([]byte, chunk)
	var failed error
	err := src.Touched(func(addr, size int64) {
		for failed == nil && size > 0 {
			n := min(size, chunk)
			if addr%PageSize != 0 || n%PageSize != 0 || len(m.Pages) > 0 && uint64(addr) <= m.Pages[len(m.Pages)-1].Addr {
				failed = fmt.Errorf("%w: the touched range of %d bytes at %#x is not one of whole pages in order", ErrMemory, size, addr)
				return
			}
			if len(m.Pages)+int(n/PageSize) > MaxPages {
				failed = fmt.Errorf("%w: more than %d GiB were touched", ErrMemory, MaxPages*PageSize>>30)
				return
			}
			if _, err := src.ReadAt(buf[:n], addr); err != nil {
				failed = fmt.Errorf("guest memory at %#x: %w", addr, err)
				return
			}
			for page := range slices.Chunk(buf[:n], PageSize) {
				m.Pages = append(m.Pages, Page{uint64(addr), SumOf(page)})
				addr += PageSize
			}
			size -= n
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Alike returns how many bytes of touched pages are zeros, and how many are other pages that an earlier one equals.
func (m *Memory) Alike() (zero, duplicate uint64) {
	seen := make(map[Sum]bool, len(m.Pages))
	for _, p := range m.Pages {
		switch {
		case p.Sum == Sum{}:
			zero += PageSize
		case seen[p.Sum]:
			duplicate += PageSize
		default:
			seen[p.Sum] = true
		}
	}
	return zero, duplicate
}

// From returns the index of the first touched page at or above a physical address.
func (m *Memory) From(addr uint64) int {
	i, _ := slices.BinarySearchFunc(m.Pages, addr, func(p Page, addr uint64) int {
		switch {
		case p.Addr < addr:
			return -1
		case p.Addr > addr:
			return 1
		}
		return 0
	})
	return i
}

// Read copies the memory at a physical address; what is not there is an error.
func (m *Memory) Read(p []byte, addr uint64) error {
	if addr >= 1<<62 {
		return fmt.Errorf("%w: no address %#x", ErrMemory, addr)
	}
	_, err := m.src.ReadAt(p, int64(addr))
	return err
}
