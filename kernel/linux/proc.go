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
		p.statText(t, nil)
	case procfs.Statm:
		size, resident := p.mm.memoryStats()
		t.Dec(size).Str(" ").Dec(resident).Str(" 0 0 0 0 0\n")
	case procfs.Owners:
		p.ownersText(t)
	case procfs.Status:
		p.statusText(t, nil)
	}
}

// ThreadText writes one of the files of a thread.
func (p *process) ThreadText(t *vfs.Text, k procfs.Kind, tid int) {
	th := p.byTID(tid)
	switch {
	case th == nil:
	case k == procfs.Comm:
		t.Str(cString(&th.name)).Str("\n")
	case k == procfs.Stat:
		p.statText(t, th)
	case k == procfs.Status:
		p.statusText(t, th)
	}
}

// NextThread returns the number of the first thread above tid, 0 if there is none.
func (p *process) NextThread(tid int) int {
	next := 0
	t := p.threads
	for range p.numTh {
		if t.tid > tid && (next == 0 || t.tid < next) {
			next = t.tid
		}
		t = t.next
	}
	return next
}

// CurrentThread returns the number of the thread whose call is being served.
func (p *process) CurrentThread() int {
	if p.current == nil {
		return thePID
	}
	return p.current.tid
}

// who returns the thread that /proc tells of, the first one for the process as a whole, its number and its state.
func (p *process) who(th *thread) (of *thread, tid int, state string) {
	if of = th; of == nil {
		of = &p.leader
	}
	tid = of.tid
	switch {
	case of.state == dead:
		return of, tid, "Z (zombie)"
	case of.state == blocked:
		return of, tid, "S (sleeping)"
	}
	return of, tid, "R (running)"
}

// statText writes the 52 fields of stat, for a thread or, if it is nil, the process.
func (p *process) statText(t *vfs.Text, th *thread) {
	of, tid, state := p.who(th)
	size, resident := p.mm.memoryStats()
	user, sys := p.cpuOf(th)
	t.Dec(uint64(tid)).Str(" (").Str(cString(&of.name)).Str(") ").Str(state[:1]).Str(" 0 1 1 0 -1 0 0 0 0 0 ")
	t.Dec(user / (1e9 / clockTick)).Str(" ").Dec(sys / (1e9 / clockTick)).Str(" 0 0 20 0 ").Dec(uint64(p.numTh)).Str(" 0 0 ")
	t.Dec(size * pageSize).Str(" ").Dec(resident).Str(" 18446744073709551615 0 0 ").Dec(stackTop)
	t.Str(" 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 ").Dec(p.mm.brk.start).Str(" ").Dec(p.argStart).Str(" ").Dec(p.argEnd)
	t.Str(" ").Dec(p.envStart).Str(" ").Dec(p.envEnd).Str(" 0\n")
}

// statusText writes status, for a thread or, if it is nil, the process.
func (p *process) statusText(t *vfs.Text, th *thread) {
	of, tid, state := p.who(th)
	size, resident := p.mm.memoryStats()
	var ignored, caught uint64
	for sig := 1; sig <= numSignals; sig++ {
		switch p.actions[sig].handler {
		case sigDfl:
		case sigIgn:
			ignored |= bit(sig)
		default:
			caught |= bit(sig)
		}
	}
	t.Str("Name:\t").Str(cString(&of.name)).Str("\nUmask:\t").Oct(uint64(p.umask), 4)
	t.Str("\nState:\t").Str(state).Str("\nTgid:\t1\nNgid:\t0\nPid:\t").Dec(uint64(tid)).Str("\nPPid:\t0\nTracerPid:\t0\n")
	t.Str("Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t").Dec(uint64(len(p.files))).Str("\nGroups:\t\n")
	kib := func(name string, bytes uint64) { t.Str(name).DecPad(bytes/1024, 8).Str(" kB\n") }
	kib("VmSize:\t", size*pageSize)
	kib("VmLck:\t", p.mm.areas.locked)
	kib("VmRSS:\t", resident*pageSize)
	t.Str("Threads:\t").Dec(uint64(p.numTh)).Str("\nSigQ:\t").Dec(p.queued).Str("/").Dec(p.limits[rlimitSigpending][0])
	set := func(name string, set uint64) { t.Str(name).Hex(set, 16) }
	set("\nSigPnd:\t", of.pending.set)
	set("\nShdPnd:\t", p.pending.set)
	set("\nSigBlk:\t", of.mask)
	set("\nSigIgn:\t", ignored)
	set("\nSigCgt:\t", caught)
	set("\nCapInh:\t", of.caps.inheritable)
	set("\nCapPrm:\t", of.caps.permitted)
	set("\nCapEff:\t", of.caps.effective)
	set("\nCapBnd:\t", capAll)
	set("\nCapAmb:\t", 0)
	t.Str("\nNoNewPrivs:\t")
	if of.noNewPrivs {
		t.Str("1")
	} else {
		t.Str("0")
	}
	t.Str("\nSeccomp:\t0\nCpus_allowed:\t").Hex(p.allCPUs(), 1).Str("\nCpus_allowed_list:\t0")
	if last := uint64(p.numCPUs() - 1); last > 0 {
		t.Str("-").Dec(last)
	}
	t.Str("\n")
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
func (p *process) comm() string { return cString(&p.leader.name) }

// cString returns a text up to its first NUL.
func cString(b *[16]byte) string {
	n := 0
	for n < len(b) && b[n] != 0 {
		n++
	}
	return string(b[:n])
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
