// Package boot reads what the image and the VMM tell the kernel: its parameters. docs/guest-abi.md is the specification.
package boot

import "unsafe"

// Params is what the kernel was told.
type Params struct {
	Args     []string
	Env      []string // K=V
	Cwd      string
	Hostname string
	Verbose  bool
	CPUs     int // the most that the program's threads may run on; 0: nothing was said, which is all that the machine has

	RootType         string // "" when nothing was said; "initrd": the loader's module
	RootFromVMM      bool   // the command line said it, not the image
	RootOff, RootLen int64  // bytes on the disk

	Disks   []MMIO   // virtio-mmio windows that the command line names
	Unknown []string // words that were not understood
}

// MMIO is a virtio-mmio device window.
type MMIO struct {
	Addr uint64 // physical
	IRQ  uint32 // global system interrupt
}

// Parse reads the parameter area and the command line. The strings it returns share their memory.
func Parse(area, cmdline []byte) *Params {
	p := new(Params)
	for len(area) > 0 {
		n := index(area, 0)
		if n <= 0 {
			break
		}
		p.word(area[:n], false)
		area = area[min(n+1, len(area)):]
	}
	argsSaid := false
	for len(cmdline) > 0 {
		w, rest := next(cmdline)
		cmdline = rest
		if len(w) == 0 {
			continue
		}
		if key, _ := cut(w); key == "arg" && !argsSaid {
			argsSaid = true
			p.Args = p.Args[:min(1, len(p.Args))]
		}
		p.word(w, true)
	}
	return p
}

// next takes the first word of a command line, with its backslashes resolved in place.
func next(b []byte) (word, rest []byte) {
	n := 0
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '\\' && i+1 < len(b):
			i++
		case b[i] == ' ':
			return b[:n], b[i+1:]
		}
		b[n] = b[i]
		n++
	}
	return b[:n], nil
}

// Area returns the part of a parameter area that is used.
func Area(b []byte) []byte {
	for n := 0; n < len(b); {
		size := index(b[n:], 0)
		if size == 0 {
			return b[:n]
		}
		n += size + 1
	}
	return b
}

func index(b []byte, c byte) int {
	for i := range b {
		if b[i] == c {
			return i
		}
	}
	return len(b)
}

func str(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// cut splits a word at its first equals sign.
func cut(w []byte) (key, value string) {
	n := index(w, '=')
	return str(w[:n]), str(w[min(n+1, len(w)):])
}

func (p *Params) word(w []byte, fromVMM bool) {
	key, value := cut(w)
	switch key {
	case "arg":
		p.Args = append(p.Args, value)
		return
	case "env":
		p.setEnv(value)
		return
	case "root":
		if p.setRoot(value) {
			p.RootFromVMM = fromVMM
			return
		}
	case "init":
		if fromVMM {
			if len(p.Args) == 0 {
				p.Args = append(p.Args, value)
			}
			p.Args[0] = value
			return
		}
	case "cwd":
		p.Cwd = value
		return
	case "hostname":
		p.Hostname = value
		return
	case "verbose":
		p.Verbose = value == "1"
		return
	case "cpus":
		if n, rest, ok := number(value); ok && len(rest) == 0 && n > 0 && n <= 1<<16 {
			p.CPUs = int(n)
			return
		}
	case "virtio_mmio.device":
		if fromVMM && p.addDisk(value) {
			return
		}
	}
	p.Unknown = append(p.Unknown, str(w))
}

func (p *Params) setEnv(kv string) {
	name := kv[:index([]byte(kv), '=')]
	for i, have := range p.Env {
		if len(have) > len(name) && have[:len(name)] == name && have[len(name)] == '=' {
			p.Env[i] = kv
			return
		}
	}
	p.Env = append(p.Env, kv)
}

// setRoot reads TYPE:OFFSET:LENGTH, or initrd.
func (p *Params) setRoot(v string) bool {
	if v == "initrd" {
		p.RootType, p.RootOff, p.RootLen = v, 0, 0
		return true
	}
	n := 0
	for n < len(v) && v[n] != ':' {
		n++
	}
	off, rest, ok := number(v[min(n+1, len(v)):])
	if !ok || len(rest) == 0 || rest[0] != ':' {
		return false
	}
	length, rest, ok := number(rest[1:])
	if !ok || len(rest) != 0 || off > 1<<62 || length > 1<<62 {
		return false
	}
	p.RootType, p.RootOff, p.RootLen = v[:n], int64(off), int64(length)
	return true
}

// addDisk reads SIZE@ADDR:IRQ[:ID].
func (p *Params) addDisk(v string) bool {
	_, rest, ok := number(v)
	if ok && len(rest) > 0 && (rest[0]|0x20 == 'k' || rest[0]|0x20 == 'm' || rest[0]|0x20 == 'g') {
		rest = rest[1:]
	}
	if !ok || len(rest) == 0 || rest[0] != '@' {
		return false
	}
	addr, rest, ok := number(rest[1:])
	if !ok || len(rest) == 0 || rest[0] != ':' {
		return false
	}
	irq, rest, ok := number(rest[1:])
	if !ok || irq > 255 || len(rest) > 0 && rest[0] != ':' {
		return false
	}
	p.Disks = append(p.Disks, MMIO{addr, uint32(irq)})
	return true
}

// number reads a decimal or 0x-prefixed number from the start of s.
func number(s string) (v uint64, rest string, ok bool) {
	base := uint64(10)
	if len(s) > 2 && s[0] == '0' && s[1] == 'x' {
		base, s = 16, s[2:]
	}
	i := 0
	for ; i < len(s); i++ {
		d := uint64(s[i] - '0')
		if s[i] > '9' {
			d = uint64(s[i]|0x20-'a') + 10
		}
		if d >= base || v > (1<<63)/base {
			break
		}
		v = v*base + d
	}
	return v, s[i:], i > 0
}
