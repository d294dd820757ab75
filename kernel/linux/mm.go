package linux

import (
	"sync/atomic"
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// Where things lie in the program's address space: the stack at the top, below it what mmap places, downwards.
const (
	stackTop  = userEnd
	stackSize = 8 << 20   // the limit that a program starts with
	stackRoom = 128 << 20 // below the stack nothing is placed: Linux's least, so that the limit can be raised
	stackHave = 128 << 10 // of stack below what a program starts with
	mapTop    = stackTop - stackRoom - growthGap
	pieBase   = 0x555555554000
)

// memory is the program's address space. The areas say what may be where; pages come by faults.
type memory struct {
	areas areas
	space mem.Space
	brk   struct{ start, end uint64 }
	pages uint64 // present
	short bool   // a page could not be had: the program is killed when the call is over

	stack  uint64 // RLIMIT_STACK
	future uint32 // areaLocked, areaLazy: what new areas begin with, after mlockall
}

// sigSegv and the other signals a fault ends in, with their codes.
type fault struct {
	sig, code int
}

// Codes of a fault's siginfo (include/uapi/asm-generic/siginfo.h).
const (
	segvMapErr = 1
	segvAccErr = 2
	busAdrErr  = 2
)

func pageDown(v uint64) uint64 { return v &^ (pageSize - 1) }

// pageUp rounds up to a page; what overflows becomes 0.
func pageUp(v uint64) uint64 { return (v + pageSize - 1) &^ (pageSize - 1) }

func flagsOf(kind uint32, writable bool) mem.Flags {
	var fl mem.Flags
	if kind&protMask == 0 {
		return mem.NoAccess
	}
	if kind&protWrite != 0 && writable {
		fl |= mem.Write
	}
	if kind&protExec != 0 {
		fl |= mem.Exec
	}
	return fl
}

// mapPage is Space.Map, making room for page tables if need be.
func (m *memory) mapPage(va uint64, f mem.Frame, fl mem.Flags) bool {
	for !m.space.Map(va, f, fl) {
		if vfs.Reclaim(64) == 0 {
			return false
		}
	}
	m.pages++
	return true
}

var oomFault = fault{sig: sigKill}

// area returns the area that va lies in, or nil. One that grows grows to it.
func (m *memory) area(va uint64) *area {
	a := m.areas.at(va)
	if a == nil || a.start <= va {
		return a
	}
	va = pageDown(va)
	if a.kind&areaGrows == 0 || va < userMin || a.end-va > m.stack {
		return nil
	}
	if below := m.areas.before(a.start); below != nil && below.kind&areaGrows == 0 && below.kind&protMask != 0 && va-below.end < growthGap {
		return nil
	}
	m.areas.grow(a, va)
	return a
}

// touch makes the page at va present for an access: protRead, protWrite or protExec. The zero fault is success; SIGKILL
// stands for memory that ran out, even though pages of files that were mapped could be dropped.
func (m *memory) touch(va uint64, access uint32) fault {
	f := m.bring(pageDown(va), access)
	if f == oomFault && m.unmapFiles() {
		f = m.bring(pageDown(va), access)
	}
	return f
}

// unmapFiles takes the pages of files, but for the program's own copies and those that are locked, out of the address space, so that the caches may drop them;
// the program's next access maps them again. It reports whether there were any.
func (m *memory) unmapFiles() bool {
	before := m.pages
	for a := m.areas.at(0); a != nil; a = m.areas.at(a.end) {
		if a.file == nil || a.kind&areaLocked != 0 {
			continue
		}
		m.zapArea(a, a.start, a.end, false)
	}
	mem.Settle()
	return m.pages < before
}

func (m *memory) bring(va uint64, access uint32) fault {
	a := m.area(va)
	if a == nil {
		return fault{sigSegv, segvMapErr}
	}
	if a.kind&access == 0 {
		// A page that can be written or executed can be read on this machine.
		if access != protRead || a.kind&protMask == 0 {
			return fault{sigSegv, segvAccErr}
		}
	}
	if a.kind&areaGuard != 0 {
		return fault{sigSegv, segvMapErr}
	}
	if f, fl, ok := m.space.Lookup(va); ok {
		if access != protWrite || fl&mem.Write != 0 {
			return fault{}
		}
		return m.unshare(a, va, f)
	}
	if a.file == nil {
		f := vfs.AllocPage(abi.OwnApp)
		if f == 0 {
			return oomFault
		}
		if !m.mapPage(va, f, flagsOf(a.kind, true)) {
			mem.Free(f, abi.OwnApp)
			return oomFault
		}
		return fault{}
	}
	if access == protWrite && a.kind&areaShared == 0 {
		return m.private(a, va)
	}
	return m.shared(a, va)
}

// unshare gives the program a writable page at va where f is mapped read-only.
func (m *memory) unshare(a *area, va uint64, f mem.Frame) fault {
	cached := a.file != nil && a.file.Node.Cached(a.page(va)) == f
	if !cached || a.kind&areaShared != 0 {
		m.space.Protect(va, flagsOf(a.kind, true))
		return fault{}
	}
	own := vfs.AllocDirty(abi.OwnApp) // f is mapped, so making room cannot take it
	if own == 0 {
		return oomFault
	}
	copy(own.Bytes(pageSize), f.Bytes(pageSize))
	m.space.Map(va, own, flagsOf(a.kind, true)) // the page table is there
	a.file.Node.Mapped(a.page(va), -1)
	mem.Settle()
	return fault{}
}

// private makes a copy of the file's page for the program to write.
func (m *memory) private(a *area, va uint64) fault {
	own := vfs.AllocDirty(abi.OwnApp) // before the file's page, which making room might take again
	if own == 0 {
		return oomFault
	}
	f, ft := filePage(a, va)
	if f == 0 {
		mem.Free(own, abi.OwnApp)
		return ft
	}
	copy(own.Bytes(pageSize), f.Bytes(pageSize))
	if !m.mapPage(va, own, flagsOf(a.kind, true)) {
		mem.Free(own, abi.OwnApp)
		return oomFault
	}
	return fault{}
}

func filePage(a *area, va uint64) (mem.Frame, fault) {
	f, err := a.file.Node.Page(a.page(va))
	switch err {
	case 0:
		return f, fault{}
	case vfs.ENOMEM:
		return 0, oomFault
	}
	return 0, fault{sigBus, busAdrErr} // behind the end of the file, or the disk failed
}

// shared maps the file's own page, and its neighbours that are in memory already.
func (m *memory) shared(a *area, va uint64) fault {
	f, ft := filePage(a, va)
	if f == 0 {
		return ft
	}
	n := a.file.Node
	n.Mapped(a.page(va), 1) // from here on making room cannot take it
	fl := flagsOf(a.kind, a.kind&areaShared != 0)
	if !m.mapPage(va, f, fl) {
		n.Mapped(a.page(va), -1)
		return oomFault
	}
	// The neighbours within aligned 64 KiB, as in Linux.
	const group = mem.Group * pageSize
	base := va &^ (group - 1)
	table := m.space.Table(va)
	want := table.Empty(va)
	if a.start > base {
		want &^= 1<<((a.start-base)/pageSize) - 1
	}
	if a.end < base+group {
		want &= 1<<((a.end-base)/pageSize) - 1
	}
	var frames [mem.Group]mem.Frame
	n.Around(a.page(va)-(va-base)/pageSize, want, &frames) // the first may be one before the file, which is not wanted
	m.pages += table.Fill(va, &frames, fl)
	return fault{}
}

// drop takes a page that was at va out of a's accounts.
func (m *memory) drop(a *area, va uint64, f mem.Frame) {
	m.pages--
	if a.file != nil {
		n := a.file.Node
		if p := a.page(va); n.Cached(p) == f {
			n.Mapped(p, -1)
			return
		}
	}
	mem.Free(f, abi.OwnApp)
}

// zap drops the present pages of [start, end), whose areas stay. Before the call is over somebody must settle.
func (m *memory) zap(start, end uint64) {
	for a := m.areas.within(start, end); a != nil; a = m.areas.within(a.end, end) {
		m.zapArea(a, max(a.start, start), min(a.end, end), true)
	}
}

// zapArea drops the present pages of [start, end), which are a's: all of them or, unless copies is set, only those that are the file's.
func (m *memory) zapArea(a *area, start, end uint64, copies bool) {
	for va, ok := m.space.Next(start, end); ok; va, ok = m.space.Next(va+pageSize, end) {
		if f, _, _ := m.space.Lookup(va); copies || a.file.Node.Cached(a.page(va)) == f {
			m.space.Unmap(va)
			m.drop(a, va, f)
		}
	}
}

// unmap drops [start, end) altogether.
func (m *memory) unmap(start, end uint64) {
	if m.areas.free(start, end) {
		return
	}
	m.zap(start, end)
	m.areas.remove(start, end)
	m.prune(start, end)
}

// prune frees the page tables of [start, end), where nothing is any more, as far as nothing else needs them.
func (m *memory) prune(start, end uint64) {
	low, high := uint64(0), uint64(userEnd)
	if a := m.areas.at(start); a != nil {
		high = a.start
	}
	if a := m.areas.before(start); a != nil {
		low = a.end
	}
	m.space.Prune(start, end, low, high)
	mem.Settle()
}

// protect changes the protection of [start, end), which areas cover.
func (m *memory) protect(start, end uint64, prot uint32) {
	m.areas.protect(start, end, prot)
	for a := m.areas.within(start, end); a != nil; a = m.areas.within(a.end, end) {
		va, stop := max(a.start, start), min(a.end, end)
		for {
			next, ok := m.space.Next(va, stop)
			if !ok {
				break
			}
			f, _, _ := m.space.Lookup(next)
			own := a.file == nil || a.kind&areaShared != 0 || a.file.Node.Cached(a.page(next)) != f
			m.space.Protect(next, flagsOf(a.kind, own))
			va = next + pageSize
		}
	}
	mem.Settle()
}

// forget drops the file's pages [from, to), in bytes, before the file loses them; and, if copies is set, those that the program has
// in their place.
func (m *memory) forget(n vfs.Node, from, to uint64, copies bool) {
	for a := m.areas.at(0); a != nil; a = m.areas.at(a.end) {
		if a.file == nil || a.file.Node != n {
			continue
		}
		first, last := max(from, a.off), min(to, a.off+(a.end-a.start))
		if first < last {
			m.zapArea(a, a.start+(first-a.off), a.start+(last-a.off), copies)
		}
	}
	mem.Settle()
}

// userRange reports whether size bytes at va lie within the program's part of the address space.
func userRange(va, size uint64) bool { return va < userEnd && size <= userEnd-va }

// frame returns the frame that holds va, bringing it in as an access of the program would.
func (m *memory) frame(va uint64, access uint32) mem.Frame {
	if va >= userEnd {
		return 0
	}
	for range 2 {
		f, fl, ok := m.space.Lookup(va)
		if ok && fl&mem.NoAccess == 0 && (access != protWrite || fl&mem.Write != 0) {
			return f
		}
		if ft := m.touch(va, access); ft.sig != 0 {
			m.short = m.short || ft == oomFault
			return 0
		}
	}
	return 0
}

// piece returns the kernel's view of the program's memory from va to the end of its page, at most size bytes, nil if the
// program may not access it so. It is valid until the next call that can change the address space.
func (m *memory) piece(va, size uint64, access uint32) []byte {
	f := m.frame(va, access)
	if f == 0 {
		return nil
	}
	at := va % pageSize
	return f.Bytes(pageSize)[at:min(at+size, pageSize)]
}

// copyIn fills p from the program's memory at va; false is EFAULT.
func (m *memory) copyIn(p []byte, va uint64) bool {
	if !userRange(va, uint64(len(p))) {
		return false
	}
	for len(p) > 0 {
		b := m.piece(va, uint64(len(p)), protRead)
		if b == nil {
			return false
		}
		n := copy(p, b)
		p = p[n:]
		va += uint64(n)
	}
	return true
}

// copyOut writes p to the program's memory at va; false is EFAULT, and what lies before the fault is written.
func (m *memory) copyOut(va uint64, p []byte) bool {
	if !userRange(va, uint64(len(p))) {
		return false
	}
	for len(p) > 0 {
		b := m.piece(va, uint64(len(p)), protWrite)
		if b == nil {
			return false
		}
		n := copy(b, p)
		p = p[n:]
		va += uint64(n)
	}
	return true
}

func (m *memory) get32(va uint64) (uint32, bool) {
	var b [4]byte
	if va%4 == 0 { // within one page
		if p := m.piece(va, 4, protRead); p != nil {
			return atomic.LoadUint32((*uint32)(unsafe.Pointer(unsafe.SliceData(p)))), true
		}
		return 0, false
	}
	ok := m.copyIn(b[:], va)
	return le32(b[:]), ok
}

func (m *memory) put32(va uint64, v uint32) bool {
	var b [4]byte
	set32(b[:], v)
	return m.copyOut(va, b[:])
}

// change changes the word at va, which is a multiple of 4, in one step, though threads on other CPUs change it too: to what to makes
// of it, unless that says no. It returns the word as it was. A word that others change all the time is EAGAIN in the end.
func (m *memory) change(va uint64, to func(old uint32) (word uint32, change bool)) (old uint32, err vfs.Errno) {
	const tries = 1 << 16
	b := m.piece(va, 4, protWrite)
	if b == nil {
		return 0, vfs.EFAULT
	}
	at := (*uint32)(unsafe.Pointer(unsafe.SliceData(b)))
	for range tries {
		old = atomic.LoadUint32(at)
		if v, change := to(old); !change || atomic.CompareAndSwapUint32(at, old, v) {
			return old, 0
		}
	}
	return 0, vfs.EAGAIN
}

func (m *memory) get64(va uint64) (uint64, bool) {
	var b [8]byte
	ok := m.copyIn(b[:], va)
	return le64(b[:]), ok
}

func (m *memory) put64(va uint64, v uint64) bool {
	var b [8]byte
	set64(b[:], v)
	return m.copyOut(va, b[:])
}

// str returns the NUL-terminated string at va; tooLong is the error for one that does not end within limit bytes, the NUL
// counted.
func (m *memory) str(va, limit uint64, tooLong vfs.Errno) (string, vfs.Errno) {
	var s string
	for limit > 0 {
		b := m.piece(va, limit, protRead)
		if b == nil {
			return "", vfs.EFAULT
		}
		n := len(b)
		for i, c := range b {
			if c == 0 {
				n = i
				break
			}
		}
		// Another CPU may change it meanwhile: what ends the string is not looked for again.
		s += string(b[:n])
		if n < len(b) {
			for i := range len(s) {
				if s[i] == 0 {
					return s[:i], 0
				}
			}
			return s, 0
		}
		va += uint64(len(b))
		limit -= uint64(len(b))
	}
	return "", tooLong
}

func (m *memory) path(va uint64) (string, vfs.Errno) {
	return m.str(va, vfs.PathMax, vfs.ENAMETOOLONG)
}

// The compiler makes one load or store of each of these.

func le16(b []byte) uint16 { _ = b[1]; return uint16(b[0]) | uint16(b[1])<<8 }

func le32(b []byte) uint32 {
	_ = b[3]
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func le64(b []byte) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

func set16(b []byte, v uint16) { _ = b[1]; b[0], b[1] = byte(v), byte(v>>8) }

func set32(b []byte, v uint32) {
	_ = b[3]
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
}

func set64(b []byte, v uint64) {
	_ = b[7]
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	b[4], b[5], b[6], b[7] = byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56)
}
