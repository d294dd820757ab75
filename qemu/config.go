// Package qemu runs one virtual machine under QEMU and says what happened when: it finds QEMU, chooses an accelerator by
// trying it, turns a Config into an argv, supervises the process, and hands over the guest's console, marks and memory.
//
// A boot:
//
//	q, err := qemu.Find(ctx, "")
//	choice, err := q.Choose(ctx, qemu.Auto)
//	vm, err := q.Start(ctx, qemu.Config{Accel: choice.Accel, Kernel: "app.img", Disks: []string{"app.img"}}, qemu.Events{
//		Console: func(at time.Duration, p []byte) { … },
//		Mark:    func(at time.Duration, p []byte) { … },
//	})
//	defer vm.Close()
//	result, err := vm.Wait()
//	touched, err := vm.TouchedBytes()
//
// A Config leaves nothing behind: the guest's memory is a memfd, the marks and the monitor are socket pairs, and the
// kernel kills QEMU when the supervising process dies, however it dies.
package qemu

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
)

// Errors that callers tell apart with errors.Is. The text of the error that wraps them says what to do.
var (
	ErrNotFound    = errors.New("QEMU is not installed")
	ErrTooOld      = errors.New("QEMU is too old")
	ErrAccel       = errors.New("the accelerator cannot run guests on this host")
	ErrUnsupported = errors.New("not supported on this system")
	ErrConfig      = errors.New("bad machine configuration")
)

// Machine is a QEMU machine type.
type Machine string

// The machines. The zero value means MicroVM.
const (
	MicroVM Machine = "microvm" // virtio-mmio, no PCI: the fastest to boot
	Q35     Machine = "q35"
	PC      Machine = "pc" // i440FX
)

// Firmware is what runs before the kernel.
type Firmware string

// The firmwares. The zero value means QBoot on MicroVM, SeaBIOS elsewhere: each machine's usual one.
const (
	QBoot   Firmware = "qboot"
	SeaBIOS Firmware = "seabios"
)

// Accel is a QEMU accelerator.
type Accel string

// The accelerators. The zero value means TCG. Auto is for QEMU.Choose only: a Config names the one that was chosen.
const (
	Auto Accel = "auto"
	TCG  Accel = "tcg"
	KVM  Accel = "kvm"
)

// TCGCPU is the CPU model of guests under TCG: nothing in it depends on the host. SSE 4.2 is in it because crc32c by hand
// costs ten times the instructions; AVX is not, because a guest that sees it must save its state.
const TCGCPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand,+fsgsbase,+smep,+smap,+rdtscp,+pdpe1gb"

// DefaultMemory is the guest's RAM when a Config names none: 64 MiB.
const DefaultMemory = 64 << 20

// MaxMemory bounds the guest's RAM: 1 TiB.
const MaxMemory = 1 << 40

// MaxPorts bounds the I/O ports that are listened to.
const MaxPorts = 16

// MaxCPUs bounds the virtual CPUs.
const MaxCPUs = 255

// Config describes a virtual machine. Same Config, same machine: neither the environment nor the clock takes part.
type Config struct {
	Machine     Machine
	Firmware    Firmware
	Accel       Accel
	CPU         string // as -cpu takes it; default TCGCPU under TCG, host under KVM
	CPUs        int    // virtual ones; default 1, at most MaxCPUs
	MemoryBytes int64  // a multiple of 1 MiB; default DefaultMemory

	// Legacy keeps the PIT, PIC and RTC of microvm, which Linux and OSv may want. The other machines always have them.
	Legacy bool

	Kernel      string // path of a PVH ELF or bzImage
	KernelImage []byte // the kernel itself instead of its path; Start passes it as a memfd
	Initrd      string // path; optional
	Append      string // kernel command line, passed as it is
	Disks       []string

	// Ports are I/O ports besides abi.PortMark whose bytes Events.Port gets; at most MaxPorts.
	Ports []uint16

	// WatchPorts notes when each byte is written to abi.PortMark, which then counts as a point after Points, and to each of Ports,
	// which are the next ones. TCG only.
	WatchPorts bool

	// AnonymousRAM gives the guest ordinary memory, which no one else can read: TouchedBytes, Touched and ReadAt fail with
	// ErrUnsupported. A first touch of a page then costs 3 µs less; see docs/qemu-argv.md.
	AnonymousRAM bool

	// Balloon gives the guest a virtio memory balloon, of which Balloon tells the statistics. It needs Monitor.
	Balloon bool

	// Monitor connects a QMP monitor; see VM.Monitor.
	Monitor bool

	// Paused starts the vCPUs only when the monitor says cont.
	Paused bool

	// Counting makes this a counting boot: icount, one vCPU thread, a fixed seed, and the counting plugin. TCG only.
	Counting *Counting

	// TraceDisks records the requests that the guest makes of its disks, in Result.Disks.
	TraceDisks bool

	// Points are instructions whose executions Result.Counts has. Outside a counting boot they are logged with their times
	// and cost next to nothing. TCG only.
	Points []plugin.Point
}

// Counting asks for a counting boot.
type Counting struct {
	Tree   bool // keep the instructions by calling context
	Memory bool // keep which context touched a page of RAM first; with Tree only
}

// plugin returns what the plugin is to do; ok is false when there is nothing.
func (c Config) plugin() (p plugin.Config, ok bool) {
	p.Points = c.Points
	if c.Counting != nil {
		p.Count, p.Tree, p.Memory = true, c.Counting.Tree, c.Counting.Memory
	}
	return p, p.Count || len(p.Points) > 0 || c.WatchPorts
}

// withDefaults returns c with every zero choice made.
func (c Config) withDefaults() Config {
	if c.Machine == "" {
		c.Machine = MicroVM
	}
	if c.Firmware == "" {
		c.Firmware = SeaBIOS
		if c.Machine == MicroVM {
			c.Firmware = QBoot
		}
	}
	if c.Accel == "" {
		c.Accel = TCG
	}
	if c.CPU == "" {
		c.CPU = TCGCPU
		if c.Accel == KVM {
			c.CPU = "host"
		}
	}
	if c.MemoryBytes == 0 {
		c.MemoryBytes = DefaultMemory
	}
	if c.CPUs == 0 {
		c.CPUs = 1
	}
	return c
}

// Check reports the first thing in c that QEMU could not run, wrapping ErrConfig.
func (c Config) Check() error {
	c = c.withDefaults()
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrConfig, fmt.Errorf(format, args...))
	}
	switch c.Machine {
	case MicroVM, Q35, PC:
	default:
		return bad("machine %q: want microvm, q35 or pc", c.Machine)
	}
	switch c.Firmware {
	case QBoot, SeaBIOS:
	default:
		return bad("firmware %q: want qboot or seabios", c.Firmware)
	}
	switch c.Accel {
	case TCG, KVM:
	case Auto:
		return bad("accelerator auto: choose one first")
	default:
		return bad("accelerator %q: want tcg or kvm", c.Accel)
	}
	switch {
	case c.MemoryBytes < 1<<20 || c.MemoryBytes > MaxMemory:
		return bad("memory of %d bytes: want 1 MiB to 1 TiB", c.MemoryBytes)
	case c.MemoryBytes%(1<<20) != 0:
		return bad("memory of %d bytes: want whole MiB", c.MemoryBytes)
	case c.CPUs < 1 || c.CPUs > MaxCPUs:
		return bad("%d CPUs: want 1 to %d", c.CPUs, MaxCPUs)
	case c.Balloon && !c.Monitor:
		return bad("a balloon without a monitor")
	case len(c.Ports) > MaxPorts:
		return bad("%d I/O ports to listen to: want at most %d", len(c.Ports), MaxPorts)
	case c.Kernel == "" && c.KernelImage == nil:
		return bad("no kernel")
	case c.Kernel != "" && c.KernelImage != nil:
		return bad("two kernels")
	case c.Counting != nil && c.Accel != TCG:
		return bad("only TCG counts instructions")
	case c.Paused && !c.Monitor:
		return bad("a paused machine needs a monitor")
	case (len(c.Points) > 0 || c.WatchPorts) && c.Accel != TCG:
		return bad("only TCG logs the execution of instructions")
	}
	for i, port := range c.Ports {
		if slices.Contains(c.Ports[:i], port) {
			return bad("port %#x twice", port)
		}
		for _, taken := range []struct {
			first, last uint16
			by          string
		}{{abi.PortMark, abi.PortMark, "the mark port"}, {abi.PortExit, abi.PortExit + 3, "the exit port"}, {0x3f8, 0x3ff, "the serial port"}} {
			if port >= taken.first && port <= taken.last {
				return bad("port %#x belongs to %s", port, taken.by)
			}
		}
	}
	if p, ok := c.plugin(); ok {
		if n := plugin.MaxPoints - 1 - len(c.Ports); len(p.Points) > n {
			return bad("%d points and %d ports: want at most %d points", len(p.Points), len(c.Ports), n)
		}
		if err := p.Check(); err != nil {
			return bad("%w", err)
		}
	}
	for _, s := range append([]string{c.CPU, c.Kernel, c.Initrd, c.Append}, c.Disks...) {
		if strings.IndexByte(s, 0) >= 0 {
			return bad("a NUL byte in %q", s)
		}
	}
	return nil
}
