// Package linux is the personality of Linux that the kernel shows to its one program: the loading of ELF files, system
// calls, threads and signals, for x86-64.
//
// All of it runs on one goroutine, the kernel's event loop: it enters ring 3 for one thread, serves the system call or the
// fault that this ends with, and goes on with the next thread. A call that must wait leaves its thread blocked and is
// finished or made again when the event is there. So nothing here locks. But threads that other CPUs run (see cpus) may change
// the program's memory during a call, so that it reads each word once.
package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
	"github.com/firstlight-boot/firstlight/kernel/vfs/devfs"
	"github.com/firstlight-boot/firstlight/kernel/vfs/procfs"
	"github.com/firstlight-boot/firstlight/kernel/vfs/tmpfs"
)

// Config says what to run.
type Config struct {
	Args     []string // Args[0] is also the path of the program
	Env      []string // K=V
	Cwd      string   // "" is "/"
	Hostname string   // "" is "firstlight"
	CPUs     int      // the most that its threads run on; 0 is all that the machine has
	Verbose  bool     // name system calls that are not there on the console
	Root     *vfs.Mount
}

// process is the program.
type process struct {
	mm      memory
	ns      *vfs.Namespace
	cwd     *vfs.Loc
	exe     *vfs.Loc
	files   []descriptor
	freeFD  int // all descriptors below are in use
	umask   uint32
	verbose bool
	host    string

	args, env                          []string
	argStart, argEnd, envStart, envEnd uint64
	auxv                               []byte
	name                               [16]byte // of the program, as PR_SET_NAME left it
	told                               toldByPrctl
	missing                            []uint16 // numbers of calls that were named on the console

	threads *thread // ring of all threads
	leader  thread  // the first thread, which may be dead
	numTh   int
	lastTID int
	current *thread
	entries uint64 // times that ring 3 was entered
	calls   uint64 // system calls, those that are made again and what happened to files counted too

	woken       queue  // threads that are ready since their wait ended: they go first
	run         queue  // all others that are ready
	wokenTicks  uint64 // that those have had since one of the others ran
	shared      uint64 // ring0.Ticks since which others have waited while the current thread runs
	hurry       bool   // a thread's time came: the running one makes way
	wakeAt      uint64 // no thread or timer wants to be woken before this Nanotime; 0: none at all
	wakeBy      uint64 // while a thread runs the timer interrupts it at this one: wakeAt, and what sleepers let pass
	look        bool   // what a thread runs for may have changed: the time, or who else waits
	others      bool   // the kernel has goroutines besides its loop
	interrupted bool   // the timer interrupted ring 3
	slice       uint64 // end of the current thread's time slice; 0: it has no end
	stamp       uint64 // ring0.Ticks up to which the current thread's time is accounted
	ended       cpuTime
	cpuTimers   int           // timers that count CPU time
	sleepers    []*posixTimer // until which threads sleep
	futexes     [futexBuckets]queue
	cpus        cpus
	anyOf       []*thread // that wait for any of several futexes

	actions    [numSignals + 1]action
	pending    sigQueue // for the process as a whole
	queued     uint64   // signals in all queues
	turn       *thread  // where the search for a thread that takes a signal begins
	sigFiles   []*signalFile
	limits     [numRlimits][2]uint64
	itimers    [3]timer
	timers     []*posixTimer
	nextTimer  int // where the search for the number of a new one begins
	timerFiles []*timerFile
	clockFile  clockFile
	lastInode  uint64
	epolls     []*epoll
	spans      []span    // of the call being served
	small      [512]byte // for transfers that must stay in one piece
}

// Run runs the program, and with its end ends the machine. It does not return.
func Run(cfg Config) {
	p := &process{verbose: cfg.Verbose, host: cfg.Hostname, args: cfg.Args, env: cfg.Env, umask: 0o022}
	if p.cpus.limit = cfg.CPUs; p.cpus.limit == 0 {
		p.cpus.limit = ring0.MaxCPUs
	}
	p.setLimits()
	ring0.EnableAVX()
	if p.host == "" {
		p.host = "firstlight"
	}
	p.mount(cfg.Root)
	ring0.Mark(abi.MarkRoot)
	p.start(cfg.Cwd)
	p.loop()
}

// mount builds the tree: the root, and over it what it lacks.
func (p *process) mount(root *vfs.Mount) {
	p.ns = vfs.NewNamespace(root)
	top := p.ns.Root
	dev := p.ns.Mount(top, "dev", &vfs.Mount{Type: "devtmpfs", Magic: tmpfs.Magic, Root: devfs.Root()})
	p.ns.Mount(dev, "shm", &vfs.Mount{Type: "tmpfs", Magic: tmpfs.Magic, Root: tmpfs.New(0o1777)})
	p.ns.Mount(top, "proc", &vfs.Mount{Type: "proc", Magic: procfs.Magic, Root: procfs.New(p).Root()})
	p.ns.Mount(top, "tmp", &vfs.Mount{Type: "tmpfs", Magic: tmpfs.Magic, Root: tmpfs.New(0o1777)})
	console := &vfs.Loc{Node: devfs.Console(), Parent: dev, Name: "console", Mount: dev.Mount}
	stdin := vfs.NewFile(console, vfs.ReadWriteF|largeFile)
	stdin.Retain()
	stdin.Retain()
	p.files = append(p.files, descriptor{file: stdin}, descriptor{file: stdin}, descriptor{file: stdin})
}

// start loads the program and makes its first thread.
func (p *process) start(cwd string) {
	p.cwd = p.ns.Root
	if cwd != "" && cwd != "/" {
		f, err := p.ns.Resolve(p.cwd, cwd, true)
		if err == 0 && f.Loc == nil {
			err = vfs.ENOENT
		}
		if err == 0 && !isDir(f.Loc.Node) {
			err = vfs.ENOTDIR
		}
		if err != 0 {
			p.notStarted(cwd, badELF{err, "cannot be the working directory"})
		}
		p.cwd = f.Loc
	}
	if len(p.args) == 0 || p.args[0] == "" {
		p.notStarted("(no program)", badELF{vfs.ENOENT, "the parameters name no program to run"})
	}
	path := p.args[0]
	f, err := p.ns.Resolve(p.cwd, path, true)
	if err == 0 && f.Loc == nil {
		err = vfs.ENOENT
	}
	if err != 0 {
		p.notStarted(path, badELF{err, "cannot be found"})
	}
	space, ok := mem.NewSpace()
	if !ok {
		p.notStarted(path, badELF{vfs.ENOMEM, "cannot be started: out of memory"})
	}
	p.mm.space = space
	p.mm.space.Activate()
	entry, sp, bad := p.load(f.Loc, path)
	if bad.failed() {
		p.notStarted(path, bad)
	}
	base := path
	for i := range path {
		if path[i] == '/' {
			base = path[i+1:]
		}
	}
	copy(p.name[:len(p.name)-1], base)
	t := p.newThread(ring0.NewContext())
	t.ctx.RIP, t.ctx.RSP = entry, sp
	t.caps = capabilities{effective: capAll, permitted: capAll}
	p.run.push(t)
	ring0.Mark(abi.MarkApp)
}

func isDir(n vfs.Node) bool {
	var a vfs.Attr
	n.Attr(&a)
	return a.Mode&vfs.TypeMask == vfs.TypeDir
}

func (p *process) notStarted(path string, bad badELF) {
	say("firstlight: ", path, " ", bad.text, " (", bad.err.String(), ")\n")
	ring0.Exit(abi.EndNotStart, int(bad.err))
}

// say writes a line of the kernel to the console.
func say(parts ...string) {
	var t vfs.Text
	for _, s := range parts {
		t.Str(s)
	}
	ring0.ConsoleWrite(t)
}

// exit ends the program, and so the machine.
func (p *process) exit(code int) { ring0.Exit(abi.EndExited, code&0xff) }

// kill ends the program as a signal's default action does.
func (p *process) kill(sig int) { ring0.Exit(abi.EndKilled, sig) }

// outOfMemory ends the program.
func (p *process) outOfMemory() { ring0.OutOfMemory() }

// Exception vectors (Intel SDM volume 3, 6.3.1).
const (
	vecDivide    = 0
	vecDebug     = 1
	vecBreak     = 3
	vecOverflow  = 4
	vecOpcode    = 6
	vecNoSegment = 11
	vecStack     = 12
	vecProtect   = 13
	vecPage      = 14
	vecFloat     = 16
	vecAlign     = 17
	vecSIMD      = 19
)

// Bits of a page fault's error code.
const (
	faultPresent = 1
	faultWrite   = 2
	faultFetch   = 16
)

// exception turns a fault of the program into the page that was missing, or into a signal.
func (p *process) exception(t *thread, vector int) {
	rip := t.ctx.RIP
	switch vector {
	case vecPage:
		access := uint32(protRead)
		if t.ctx.ErrorCode&faultWrite != 0 {
			access = protWrite
		} else if t.ctx.ErrorCode&faultFetch != 0 {
			access = protExec
		}
		va := t.ctx.CR2
		if va >= userEnd {
			t.ctx.ErrorCode |= faultPresent // what of the kernel is mapped is not told
			p.force(t, sigSegv, segvMapErr, va)
			return
		}
		f := p.mm.touch(va, access)
		if f == oomFault {
			p.outOfMemory()
		}
		if f.sig != 0 {
			p.force(t, f.sig, f.code, va)
		}
	case vecDivide:
		p.force(t, sigFpe, fpeIntDiv, rip)
	case vecDebug:
		p.force(t, sigTrap, trapTrace, rip)
	case vecBreak:
		p.force(t, sigTrap, siKernel, 0)
	case vecOpcode:
		p.force(t, sigIll, illIllOpn, rip)
	case vecFloat, vecSIMD:
		p.force(t, sigFpe, floatCode(t.ctx, vector), rip)
	case vecAlign:
		p.force(t, sigBus, busAdrAln, 0)
	case vecStack, vecNoSegment:
		p.force(t, sigBus, siKernel, 0)
	default:
		p.force(t, sigSegv, siKernel, 0)
	}
}

// floatCode says which floating-point exception it was: flags that are set and not masked, of the x87 or of MXCSR.
func floatCode(c *ring0.UserContext, vector int) int {
	var flags uint16
	if vector == vecFloat {
		flags = le16(c.FX[2:]) &^ le16(c.FX[0:])
	} else {
		mxcsr := le32(c.FX[24:])
		flags = uint16(mxcsr) &^ uint16(mxcsr>>7)
	}
	switch {
	case flags&1 != 0:
		return fpeInvalid
	case flags&4 != 0:
		return fpeFloatDiv
	case flags&8 != 0:
		return fpeOverflow
	case flags&(16|2) != 0:
		return fpeUnderflow
	case flags&32 != 0:
		return fpeInexact
	}
	return siKernel
}
