package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
	"github.com/firstlight-boot/firstlight/kernel/vfs/procfs"
)

// What /proc shows of the process.

// Exe returns the program's file.
func (p *process) Exe() *vfs.Loc { return p.exe }

// Cwd returns the working directory.
func (p *process) Cwd() *vfs.Loc { return p.cwd }

// File returns an open file, or nil.
func (p *process) File(fd int) *vfs.File { return p.file(uint64(fd)) }

// MaxFile returns the bound of the descriptors.
func (p *process) MaxFile() int { return len(p.files) }

// Namespace returns the mounts.
func (p *process) Namespace() *vfs.Namespace { return p.ns }

// CPUs returns how many CPUs the program is told of.
func (p *process) CPUs() int { return p.numCPUs() }

// Hostname returns the machine's name.
func (p *process) Hostname() string { return p.host }

// ProcText writes one of the files of /proc/self.
func (p *process) ProcText(t *vfs.Text, k procfs.Kind) {
	switch k {
	case procfs.Cmdline:
		p.userText(t, p.argStart, p.argEnd)
	case procfs.Environ:
		p.userText(t, p.envStart, p.envEnd)
	case procfs.Auxv:
		*t = append(*t, p.auxv...)
	case procfs.Comm:
		t.Str(p.comm()).Str("\n")
	case procfs.Maps:
		p.mapsText(t, false)
	case procfs.Smaps:
		p.mapsText(t, true)
	case procfs.Stat:
		size, resident := p.mm.memoryStats()
		t.Str("1 (").Str(p.comm()).Str(") R 0 1 1 0 -1 0 0 0 0 0 ")
		user, sys := p.cpuOf(nil)
		t.Dec(user / (1e9 / clockTick)).Str(" ").Dec(sys / (1e9 / clockTick)).Str(" 0 0 20 0 ").Dec(uint64(p.numTh)).Str(" 0 0 ")
		t.Dec(size * pageSize).Str(" ").Dec(resident).Str(" 18446744073709551615 0 0 ").Dec(stackTop)
		t.Str(" 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 ").Dec(p.mm.brk.start).Str(" ").Dec(p.argStart).Str(" ").Dec(p.argEnd)
		t.Str(" ").Dec(p.envStart).Str(" ").Dec(p.envEnd).Str(" 0\n")
	case procfs.Statm:
		size, resident := p.mm.memoryStats()
		t.Dec(size).Str(" ").Dec(resident).Str(" 0 0 0 0 0\n")
	case procfs.Owners:
		p.ownersText(t)
	case procfs.Status:
		size, resident := p.mm.memoryStats()
		t.Str("Name:\t").Str(p.comm()).Str("\nUmask:\t").Oct(uint64(p.umask), 4)
		t.Str("\nState:\tR (running)\nTgid:\t1\nNgid:\t0\nPid:\t1\nPPid:\t0\nTracerPid:\t0\n")
		t.Str("Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t").Dec(uint64(len(p.files)))
		t.Str("\nVmSize:\t").DecPad(size*pageSize/1024, 8).Str(" kB\nVmRSS:\t").DecPad(resident*pageSize/1024, 8)
		t.Str(" kB\nVmLck:\t").DecPad(p.mm.areas.locked/1024, 8)
		t.Str(" kB\nThreads:\t").Dec(uint64(p.numTh)).Str("\nCapInh:\t").Hex(p.leader.caps.inheritable, 16).Str("\nCapPrm:\t").Hex(p.leader.caps.permitted, 16).
			Str("\nCapEff:\t").Hex(p.leader.caps.effective, 16).Str("\nCapBnd:\t").Hex(capAll, 16).Str("\nCapAmb:\t").Hex(0, 16)
		last := uint64(p.numCPUs() - 1)
		if t.Str("\nCpus_allowed:\t").Hex(p.allCPUs(), 1).Str("\nCpus_allowed_list:\t0"); last > 0 {
			t.Str("-").Dec(last)
		}
		t.Str("\n")
	}
}

// ownersText tells of each owner of RAM how many pages are counted as its own and, where that can be told, how many are found.
func (p *process) ownersText(t *vfs.Text) {
	m := &p.mm
	const unknown = ^uint64(0)
	var found [abi.NumOwners]uint64
	for i := range found {
		found[i] = unknown
	}
	found[abi.OwnFree] = mem.CountFree()
	found[abi.OwnApp], found[abi.OwnAppTables] = m.space.Count(func(va uint64, f mem.Frame) bool {
		a := m.areas.find(va)
		return a == nil || a.file == nil || a.file.Node.Cached(a.page(va)) != f
	})
	found[abi.OwnHeap], found[abi.OwnTables] = mem.CountKernel()
	counted := mem.Owners()
	for i, name := range abi.OwnerNames {
		t.Str(name).Str("\t").Dec(counted[i])
		if t.Str("\t"); found[i] == unknown {
			t.Str("-\n")
		} else {
			t.Dec(found[i]).Str("\n")
		}
	}
}

// comm is the name of the program, which its first thread may have set.
func (p *process) comm() string {
	name := &p.name
	if t := p.byTID(thePID); t != nil {
		name = &t.name
	}
	n := 0
	for n < len(name) && name[n] != 0 {
		n++
	}
	return string(name[:n])
}

// userText appends what the program now has at its arguments' place, as Linux does: programs rename themselves so.
func (p *process) userText(t *vfs.Text, start, end uint64) {
	b := make([]byte, end-start)
	if p.mm.copyIn(b, start) {
		*t = append(*t, b...)
	}
}

// mapsText tells of each area, and how many pages it has if sizes is set. What differs by guard pages only is one.
func (p *process) mapsText(t *vfs.Text, sizes bool) {
	for next := p.mm.areas.at(0); next != nil; {
		a := *next
		a.kind &^= areaGuard
		for next = p.mm.areas.at(a.end); next != nil; next = p.mm.areas.at(a.end) {
			b := *next
			if b.kind &^= areaGuard; !a.joins(&b) {
				break
			}
			a.end = b.end
		}
		at := len(*t)
		t.Hex(a.start, 8).Str("-").Hex(a.end, 8).Str(" ")
		letter := func(bit uint32, s string) {
			if a.kind&bit == 0 {
				s = "-"
			}
			t.Str(s)
		}
		letter(protRead, "r")
		letter(protWrite, "w")
		letter(protExec, "x")
		if a.kind&areaShared != 0 {
			t.Str("s ")
		} else {
			t.Str("p ")
		}
		t.Hex(a.off, 8)
		var dev, ino uint64
		name := ""
		switch {
		case a.file != nil:
			var attr vfs.Attr
			a.file.Node.Attr(&attr)
			dev, ino, name = p.device(a.file.Loc), attr.Ino, a.file.Loc.Path()
		case a.kind&areaHeap != 0:
			name = "[heap]"
		case a.kind&areaStack != 0:
			name = "[stack]"
		}
		t.Str(" 00:").Hex(dev, 2).Str(" ").Dec(ino).Str(" ")
		for len(*t)-at < 73 {
			t.Str(" ")
		}
		t.Str(name).Str("\n")
		if sizes {
			p.mm.sizesText(t, &a)
		}
	}
}

// sizesText tells how many pages a has and whose they are. Nobody else has any of the program's.
func (m *memory) sizesText(t *vfs.Text, a *area) {
	const page = pageSize / 1024
	var all, own, dirty, locked uint64
	for va, ok := m.space.Next(a.start, a.end); ok; va, ok = m.space.Next(va+pageSize, a.end) {
		f, fl, _ := m.space.Lookup(va)
		all++
		if a.file == nil || a.file.Node.Cached(a.page(va)) != f {
			own++
			dirty++
		} else if fl&mem.Write != 0 {
			dirty++
		}
	}
	if a.kind&areaLocked != 0 {
		locked = all
	}
	for _, line := range [...]struct {
		name string
		kib  uint64
	}{
		{"Size:           ", (a.end - a.start) / 1024}, {"KernelPageSize: ", page}, {"MMUPageSize:    ", page}, {"Rss:            ", all * page},
		{"Pss:            ", all * page}, {"Shared_Clean:   ", 0}, {"Shared_Dirty:   ", 0}, {"Private_Clean:  ", (all - dirty) * page},
		{"Private_Dirty:  ", dirty * page}, {"Referenced:     ", all * page}, {"Anonymous:      ", own * page}, {"Locked:         ", locked * page},
	} {
		t.Str(line.name).DecPad(line.kib, 8).Str(" kB\n")
	}
	t.Str("VmFlags:")
	for _, flag := range [...]struct {
		bit  uint32
		name string
	}{{protRead, " rd"}, {protWrite, " wr"}, {protExec, " ex"}, {areaShared, " sh"}, {areaGrows, " gd"}, {areaLocked, " lo"}, {areaLazy, " lf"}} {
		if a.kind&flag.bit != 0 {
			t.Str(flag.name)
		}
	}
	t.Str("\n")
}
