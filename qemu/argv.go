package qemu

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu/blockio"
)

// wires are the descriptors that a supervisor passes to QEMU, as numbers in QEMU's process. Zero means that there is no
// such descriptor.
type wires struct {
	console, ram, marks, monitor, kernel, trace int
	plugin                                      string // value of -plugin
	ports                                       []int  // of Config.Ports
	logs                                        []int  // of abi.PortMark and Config.Ports
}

// fdPath is how QEMU opens a descriptor that it inherited. A memfd has no other name.
func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// escape doubles the commas of a value inside one of QEMU's comma-separated options.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// log makes a character device keep a log, if there is one for it.
func (w wires) log(i int) string {
	if i >= len(w.logs) {
		return ""
	}
	return ",logappend=on,logfile=" + fdPath(w.logs[i])
}

// args returns QEMU's arguments for c, argv[0] excluded. docs/qemu-argv.md says what each choice costs.
func (c Config) args(w wires) []string {
	c = c.withDefaults()
	var a []string
	add := func(s ...string) { a = append(a, s...) }

	machine := string(c.Machine)
	if c.Machine == MicroVM {
		machine += ",acpi=off"
		if !c.Legacy {
			machine += ",pit=off,pic=off,rtc=off"
		}
		if c.Firmware == QBoot {
			machine += ",x-option-roms=off" // qboot loads the kernel itself; SeaBIOS needs pvh.bin or linuxboot.bin
		}
	}
	size := fmt.Sprintf("%dM", c.MemoryBytes>>20)
	if !c.AnonymousRAM {
		machine += ",memory-backend=ram"
		backend := "memory-backend-memfd,id=ram,share=on,size=" + size // which nobody else holds, but at the same cost
		if w.ram != 0 {
			backend = "memory-backend-file,id=ram,share=on,size=" + size + ",mem-path=" + fdPath(w.ram)
		}
		add("-object", backend)
	}
	add("-M", machine)
	switch {
	case c.Accel == KVM:
		add("-accel", "kvm")
	default:
		threads := "single"
		if c.CPUs > 1 && c.Counting == nil {
			threads = "multi"
		}
		add("-accel", "tcg,thread="+threads)
	}
	add("-cpu", c.CPU, "-m", size)
	if c.CPUs > 1 {
		add("-smp", strconv.Itoa(c.CPUs))
	}
	switch {
	case c.Firmware == QBoot:
		add("-bios", "qboot.rom")
	case c.Machine == MicroVM:
		add("-bios", "bios-microvm.bin")
	}
	add("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")

	// The console is QEMU's own standard output, so that a dry run shows it. Ctrl-C is ours to handle, if we are there.
	console := "stdio,id=console"
	if w.console != 0 {
		console += ",signal=off"
	}
	add("-chardev", console, "-serial", "chardev:console")
	marks := "null,id=marks"
	if w.marks != 0 {
		marks = fmt.Sprintf("socket,id=marks,fd=%d", w.marks) + w.log(0)
	}
	add("-chardev", marks, "-device", fmt.Sprintf("isa-debugcon,iobase=%#x,chardev=marks", abi.PortMark),
		"-device", fmt.Sprintf("isa-debug-exit,iobase=%#x,iosize=0x04", abi.PortExit))
	for i, port := range c.Ports {
		dev := fmt.Sprintf("null,id=port%d", i)
		if i < len(w.ports) {
			dev = fmt.Sprintf("socket,id=port%d,fd=%d", i, w.ports[i]) + w.log(i+1)
		}
		add("-chardev", dev, "-device", fmt.Sprintf("isa-debugcon,iobase=%#x,chardev=port%d", port, i))
	}
	if w.monitor != 0 {
		add("-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", w.monitor), "-mon", "chardev=monitor,mode=control")
	}

	if c.Paused && w.monitor != 0 { // else nobody could start it
		add("-S")
	}

	disk := "virtio-blk-pci"
	if c.Machine == MicroVM {
		disk = "virtio-blk-device"
		add("-global", "virtio-mmio.force-legacy=false")
	}
	for i, path := range c.Disks {
		add("-blockdev", fmt.Sprintf("driver=raw,node-name=disk%d,read-only=on,file.driver=file,file.filename=%s", i, escape(path)),
			"-device", fmt.Sprintf("%s,drive=disk%d", disk, i))
	}

	if c.Balloon {
		balloon := "virtio-balloon-pci"
		if c.Machine == MicroVM {
			balloon = "virtio-balloon-device"
		}
		add("-device", balloon+",id="+balloonID)
	}

	kernel := c.Kernel
	if w.kernel != 0 {
		kernel = fdPath(w.kernel)
	}
	add("-kernel", kernel)
	if c.Initrd != "" {
		add("-initrd", c.Initrd)
	}
	if c.Append != "" {
		add("-append", c.Append)
	}
	if c.Counting != nil {
		// Virtual time follows the instructions, random numbers the seed, and the calendar starts at a fixed day. Several CPUs
		// take their turns by virtual time: before QEMU 8.1 one that waits for another's first step waits for ever.
		if c.CPUs == 1 {
			add("-icount", "shift=3,sleep=off")
		}
		add("-seed", "1", "-rtc", "base=2020-01-01T00:00:00,clock=vm")
	}
	if w.trace != 0 {
		add(blockio.Options(fdPath(w.trace))...)
	}
	if w.plugin != "" {
		add("-plugin", w.plugin)
	}
	return a
}

// CommandLine returns c as a line for a POSIX shell: the same machine with the console on the terminal, and without the
// parts that need a supervisor: marks go nowhere, RAM is a memfd of QEMU's own, there is no monitor and no counting plugin.
func (q *QEMU) CommandLine(c Config) (string, error) {
	if err := c.Check(); err != nil {
		return "", err
	}
	if c.KernelImage != nil {
		return "", fmt.Errorf("%w: a kernel in memory has no name that a shell could use", ErrConfig)
	}
	var b strings.Builder
	for i, word := range append([]string{q.Path}, c.args(wires{})...) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(quote(word))
	}
	return b.String(), nil
}

// quote returns word as one word of a POSIX shell.
func quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./,:=+@%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
