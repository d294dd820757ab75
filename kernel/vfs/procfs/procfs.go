// Package procfs is /proc: what programs and their runtimes read about themselves and the machine, and nothing that would
// have to be made up.
package procfs

import (
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// Magic is what statfs reports for the file system (include/uapi/linux/magic.h).
const Magic = 0x9fa0

// Release is the version of Linux whose behaviour the kernel follows, as uname reports it.
const Release = "6.1.0-firstlight"

// Version is the version part of uname.
const Version = "#1 Firstlight"

// Kind says which file of the process's directory Source is asked for.
type Kind int

// The files that Source writes.
const (
	Cmdline Kind = iota
	Environ
	Auxv
	Comm
	Maps
	Smaps
	Stat
	Statm
	Status
	Owners
)

// Source is the process.
type Source interface {
	ProcText(t *vfs.Text, k Kind)
	ThreadText(t *vfs.Text, k Kind, tid int) // Comm, Stat and Status of a thread
	NextThread(tid int) int                  // the first thread of a higher number; 0: there is none
	CurrentThread() int                      // the one that looks
	Exe() *vfs.Loc
	Cwd() *vfs.Loc
	File(fd int) *vfs.File // nil: not open
	MaxFile() int          // no descriptor is this or above
	Namespace() *vfs.Namespace
	Hostname() string
	CPUs() int // that the program may use
}

// Names of the tree. What is below a directory follows from up.
const (
	dRoot = iota
	dPid
	dFd
	dTask
	dSys
	dSysKernel
	dSysVM
	fSelf
	fThreadSelf
	fExe
	fCwd
	fRootLink
	fCmdline
	fEnviron
	fAuxv
	fComm
	fMaps
	fSmaps
	fStat
	fStatm
	fStatus
	fMounts
	fMountinfo
	fMountsLink
	fMeminfo
	fOwners
	fCpuinfo
	fVersion
	fUptime
	fLoadavg
	fInterrupts
	fGlobalStat
	fFilesystems
	fOsrelease
	fOstype
	fHostname
	fPidMax
	fThreadsMax
	fRandomize
	fOvercommit
	fMaxMapCount
)

type item struct {
	up   int
	what int
	name string
	mode uint32
}

const (
	dirMode  = vfs.TypeDir | 0o555
	fileMode = vfs.TypeReg | 0o444
	linkMode = vfs.TypeLink | 0o777
)

var items = [...]item{
	{dRoot, dRoot, "", dirMode},
	{dRoot, dPid, "1", dirMode},
	{dRoot, fSelf, "self", linkMode},
	{dRoot, fThreadSelf, "thread-self", linkMode},
	{dRoot, fMeminfo, "meminfo", fileMode},
	{dRoot, fOwners, "memowners", fileMode},
	{dRoot, fCpuinfo, "cpuinfo", fileMode},
	{dRoot, fVersion, "version", fileMode},
	{dRoot, fUptime, "uptime", fileMode},
	{dRoot, fLoadavg, "loadavg", fileMode},
	{dRoot, fInterrupts, "interrupts", fileMode},
	{dRoot, fGlobalStat, "stat", fileMode},
	{dRoot, fFilesystems, "filesystems", fileMode},
	{dRoot, fMountsLink, "mounts", linkMode},
	{dRoot, dSys, "sys", dirMode},
	{dPid, dFd, "fd", vfs.TypeDir | 0o500},
	{dPid, dTask, "task", dirMode},
	{dPid, fExe, "exe", linkMode},
	{dPid, fCwd, "cwd", linkMode},
	{dPid, fRootLink, "root", linkMode},
	{dPid, fCmdline, "cmdline", fileMode},
	{dPid, fEnviron, "environ", fileMode},
	{dPid, fAuxv, "auxv", fileMode},
	{dPid, fComm, "comm", fileMode},
	{dPid, fMaps, "maps", fileMode},
	{dPid, fSmaps, "smaps", fileMode},
	{dPid, fStat, "stat", fileMode},
	{dPid, fStatm, "statm", fileMode},
	{dPid, fStatus, "status", fileMode},
	{dPid, fMounts, "mounts", fileMode},
	{dPid, fMountinfo, "mountinfo", fileMode},
	{dSys, dSysKernel, "kernel", dirMode},
	{dSys, dSysVM, "vm", dirMode},
	{dSysKernel, fOsrelease, "osrelease", fileMode},
	{dSysKernel, fOstype, "ostype", fileMode},
	{dSysKernel, fHostname, "hostname", fileMode},
	{dSysKernel, fPidMax, "pid_max", fileMode},
	{dSysKernel, fThreadsMax, "threads-max", fileMode},
	{dSysKernel, fRandomize, "randomize_va_space", fileMode},
	{dSysVM, fOvercommit, "overcommit_memory", fileMode},
	{dSysVM, fMaxMapCount, "max_map_count", fileMode},
}

// FS is the file system of one process.
type FS struct {
	src   Source
	nodes [len(items)]node
	fds   []*fdLink // one a descriptor, made when first looked up
	tasks tasks

	// The text that a read of some file ended in, and where. Who goes on there gets the same text.
	rest   vfs.Text
	restOf *node
	restAt uint64
}

// New returns the file system; Root is its root.
func New(src Source) *FS {
	f := &FS{src: src}
	for i := range f.nodes {
		f.nodes[i].fs, f.nodes[i].item = f, i
	}
	f.tasks.fs = f
	return f
}

// Root returns the root directory.
func (f *FS) Root() vfs.Node { return &f.nodes[0] }

type node struct {
	vfs.ReadOnly
	fs   *FS
	item int
}

func (n *node) Attr(a *vfs.Attr) {
	*a = vfs.Attr{Ino: uint64(n.item) + 1, Mode: items[n.item].mode, Nlink: 1}
}

func (n *node) Lookup(name string) (vfs.Node, vfs.Errno) {
	what := items[n.item].what
	if what == dFd {
		if i, ok := number(name); ok && n.fs.src.File(i) != nil {
			return n.fs.fd(i), 0
		}
		return nil, vfs.ENOENT
	}
	for i := 1; i < len(items); i++ {
		if items[i].up == what && items[i].name == name {
			if items[i].what == dTask {
				return &n.fs.tasks, 0
			}
			return &n.fs.nodes[i], 0
		}
	}
	return nil, vfs.ENOENT
}

func (n *node) ReadDir(pos uint64) (e vfs.Entry, next uint64, ok bool, err vfs.Errno) {
	what := items[n.item].what
	if what == dFd {
		for ; pos < uint64(n.fs.src.MaxFile()); pos++ {
			if n.fs.src.File(int(pos)) != nil {
				var t vfs.Text
				t.Dec(pos)
				return vfs.Entry{Name: string(t), Ino: fdIno + pos, Type: vfs.TypeLink}, pos + 1, true, 0
			}
		}
		return e, pos, false, 0
	}
	for i := pos + 1; i < uint64(len(items)); i++ {
		if items[i].up == what {
			return vfs.Entry{Name: items[i].name, Ino: i + 1, Type: items[i].mode & vfs.TypeMask}, i, true, 0
		}
	}
	return e, pos, false, 0
}

func (n *node) Readlink() (string, vfs.Errno) {
	switch items[n.item].what {
	case fSelf:
		return "1", 0
	case fThreadSelf:
		var t vfs.Text
		t.Str("1/task/").Dec(uint64(n.fs.src.CurrentThread()))
		return string(t), 0
	case fMountsLink:
		return "self/mounts", 0
	case fRootLink:
		return "/", 0
	}
	if l := n.Follow(); l != nil {
		return l.Path(), 0
	}
	return "", vfs.EINVAL
}

func (n *node) Follow() *vfs.Loc {
	switch items[n.item].what {
	case fExe:
		return n.fs.src.Exe()
	case fCwd:
		return n.fs.src.Cwd()
	}
	return nil
}

// ReadAt writes the whole text anew, unless the last call ended where this one begins: then it is still to be had. So a text of
// megabytes, of 65,530 areas, is not written once for each page of it.
func (n *node) ReadAt(p []byte, off uint64) (int, vfs.Errno) {
	if items[n.item].mode&vfs.TypeMask == vfs.TypeDir {
		return 0, vfs.EISDIR
	}
	f := n.fs
	t := f.rest
	if off == 0 || n != f.restOf || off != f.restAt {
		t, f.rest = nil, nil
		n.text(&t)
	}
	f.rest, f.restOf = nil, nil
	if off >= uint64(len(t)) {
		return 0, 0
	}
	c := copy(p, t[off:])
	if end := off + uint64(c); end < uint64(len(t)) {
		f.rest, f.restOf, f.restAt = t, n, end
	}
	return c, 0
}

// Release drops what is left of the text.
func (n *node) Release() {
	if n == n.fs.restOf {
		n.fs.rest, n.fs.restOf = nil, nil
	}
}

func (n *node) text(t *vfs.Text) {
	src := n.fs.src
	switch items[n.item].what {
	case fCmdline:
		src.ProcText(t, Cmdline)
	case fEnviron:
		src.ProcText(t, Environ)
	case fAuxv:
		src.ProcText(t, Auxv)
	case fComm:
		src.ProcText(t, Comm)
	case fMaps:
		src.ProcText(t, Maps)
	case fSmaps:
		src.ProcText(t, Smaps)
	case fStat:
		src.ProcText(t, Stat)
	case fStatm:
		src.ProcText(t, Statm)
	case fStatus:
		src.ProcText(t, Status)
	case fMountinfo:
		mountinfo(t, src.Namespace())
	case fMounts:
		mounts(t, src.Namespace())
	case fMeminfo:
		meminfo(t)
	case fOwners:
		src.ProcText(t, Owners)
	case fCpuinfo:
		n := uint64(src.CPUs())
		for i := range n {
			t.Str("processor\t: ").Dec(i).Str("\nmodel name\t: x86-64\ncpu MHz\t\t: 0.000\nphysical id\t: 0\nsiblings\t: ").Dec(n)
			t.Str("\ncore id\t\t: ").Dec(i).Str("\ncpu cores\t: ").Dec(n).Str("\n\n")
		}
	case fVersion:
		t.Str("Linux version " + Release + " " + Version + "\n")
	case fUptime:
		hundredths := ring0.Nanotime() / 1e7
		seconds(t, hundredths)
		t.Str(" 0.00\n")
	case fLoadavg:
		t.Str("0.00 0.00 0.00 1/1 1\n")
	case fInterrupts:
		timer, device := ring0.Interrupts()
		t.Str("           CPU0\n DEV: ").DecPad(device, 10).Str("   Devices\n LOC: ").DecPad(timer, 10).Str("   Local timer interrupts\n")
	case fGlobalStat:
		t.Str("cpu  0 0 0 0 0 0 0 0 0 0\n")
		for i := range uint64(src.CPUs()) {
			t.Str("cpu").Dec(i).Str(" 0 0 0 0 0 0 0 0 0 0\n")
		}
		t.Str("btime ")
		t.Dec((ring0.Walltime() - ring0.Nanotime()) / 1e9).Str("\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n")
	case fFilesystems:
		t.Str("nodev\tproc\nnodev\ttmpfs\nnodev\tdevtmpfs\n\trofs\n")
	case fOsrelease:
		t.Str(Release + "\n")
	case fOstype:
		t.Str("Linux\n")
	case fHostname:
		t.Str(src.Hostname()).Str("\n")
	case fPidMax, fThreadsMax:
		t.Str("32768\n")
	case fRandomize:
		t.Str("0\n")
	case fOvercommit:
		t.Str("1\n")
	case fMaxMapCount:
		t.Str("65530\n")
	}
}

func seconds(t *vfs.Text, hundredths uint64) {
	t.Dec(hundredths / 100).Str(".").Dec(hundredths / 10 % 10).Dec(hundredths % 10)
}

func meminfo(t *vfs.Text) {
	total, free := mem.Stats()
	own := mem.Owners()
	cached, files := own[abi.OwnCache], own[abi.OwnFiles]+own[abi.OwnInitrd]
	const kib = mem.PageSize / 1024
	line := func(name string, kb uint64) { t.Str(name).DecPad(kb, 8).Str(" kB\n") }
	line("MemTotal:       ", total*kib)
	line("MemFree:        ", free*kib)
	line("MemAvailable:   ", (free+cached)*kib)
	line("Buffers:        ", 0)
	line("Cached:         ", (cached+files)*kib)
	line("SwapCached:     ", 0)
	line("SwapTotal:      ", 0)
	line("SwapFree:       ", 0)
	line("AnonPages:      ", own[abi.OwnApp]*kib)
	line("Shmem:          ", files*kib)
	line("PageTables:     ", (own[abi.OwnAppTables]+own[abi.OwnTables])*kib)
}

// mountinfo writes a line for each mount, which is known by the number of its device.
func mountinfo(t *vfs.Text, ns *vfs.Namespace) {
	ns.Mounts(func(path string, m *vfs.Mount) {
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		below := uint64(1) // as Linux has it: its first root, which nobody sees
		if b := m.Below(); b != nil {
			below = b.Dev
		}
		t.Dec(m.Dev).Str(" ").Dec(below).Str(" 0:").Dec(m.Dev).Str(" / ").Str(path).Str(" ").Str(mode)
		t.Str(" - ").Str(m.Type).Str(" ").Str(m.Type).Str(" ").Str(mode).Str("\n")
	})
}

func mounts(t *vfs.Text, ns *vfs.Namespace) {
	ns.Mounts(func(path string, m *vfs.Mount) {
		mode := " rw 0 0\n"
		if m.ReadOnly {
			mode = " ro 0 0\n"
		}
		t.Str(m.Type).Str(" ").Str(path).Str(" ").Str(m.Type).Str(mode)
	})
}

// fdLink is /proc/self/fd/N.
type fdLink struct {
	vfs.ReadOnly
	fs *FS
	n  int
}

const fdIno = 1000

func (f *FS) fd(n int) *fdLink {
	for len(f.fds) <= n {
		f.fds = append(f.fds, nil)
	}
	if f.fds[n] == nil {
		f.fds[n] = &fdLink{fs: f, n: n}
	}
	return f.fds[n]
}

func (l *fdLink) Attr(a *vfs.Attr) {
	*a = vfs.Attr{Ino: fdIno + uint64(l.n), Mode: vfs.TypeLink | 0o700, Nlink: 1, Size: 64}
}

func (l *fdLink) Follow() *vfs.Loc {
	if f := l.fs.src.File(l.n); f != nil {
		return f.Loc
	}
	return nil
}

func (l *fdLink) Readlink() (string, vfs.Errno) {
	to := l.Follow()
	if to == nil {
		return "", vfs.ENOENT
	}
	var a vfs.Attr
	if to.Node.Attr(&a); a.Nlink == 0 && to.Mount != nil {
		return to.Path() + " (deleted)", 0
	}
	return to.Path(), 0
}

// number reads a descriptor as /proc/self/fd spells it.
func number(s string) (int, bool) {
	n := 0
	if s == "" || len(s) > 7 || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}
