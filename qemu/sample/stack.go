package sample

import "encoding/binary"

// Stack is where a virtual CPU was.
type Stack struct {
	CPU  CPU
	Code []byte // up to CodeBytes at PC; nil where they cannot be read

	// Callers are the calls that the chain of frame pointers shows, the innermost first. Whole tells that the chain came to its end,
	// a frame pointer of zero; else there may be more that cannot be seen, and so there may where no caller is seen at all: code
	// without frame pointers may have any value there.
	Callers []Call
	Whole   bool

	// Near are the calls whose return addresses the stack pointer points to, and the word above; zero where there is no such call.
	// Whatever the frame pointer is, that is how a function was called that has no frame yet, has none any more or never has one.
	// Such a word may be a leftover, too.
	Near [2]Call
}

// Call is a call instruction.
type Call struct {
	Return uint64 // the address after it
	Target uint64 // of a direct call; 0 of others
}

const (
	// CodeBytes is how much of the code at a PC is kept, to find out what was mapped there.
	CodeBytes = 64
	// MaxCallers bounds a chain.
	MaxCallers = 256
	// maxFrame bounds the stack of one function.
	maxFrame = 1 << 20
	// maxSwitches bounds how often a chain may go to another stack, as that of Go's runtime does for what it calls on its own.
	maxSwitches = 4
)

// stack reads where a CPU is. Firmware and other code before 64-bit mode have no stack that means something.
func (m *memory) stack(c CPU) Stack {
	s := Stack{CPU: c}
	if !c.Long || !c.Paging {
		return s
	}
	var code [CodeBytes]byte
	s.Code = append(s.Code, code[:m.read(&c, c.PC, code[:])]...)
	for i := range s.Near {
		if ret, ok := m.word(&c, c.SP+8*uint64(i)); ok {
			s.Near[i], _ = m.call(&c, ret)
		}
	}
	// A frame pointer that does not start near the stack pointer is a register like any other: the code was compiled without.
	switches := -1
	for fp, last := c.FP, c.SP; len(s.Callers) < MaxCallers; {
		if fp == 0 {
			s.Whole = true
			break
		}
		if fp < last || fp-last > maxFrame {
			if switches++; switches == 0 || switches > maxSwitches {
				break
			}
		}
		next, ok1 := m.word(&c, fp)
		ret, ok2 := m.word(&c, fp+8)
		if !ok1 || !ok2 || fp%8 != 0 {
			break
		}
		call, ok := m.call(&c, ret)
		if !ok {
			s.Whole = next == 0 // goroutines start without a call, at an address that only looks like one's return
			break
		}
		s.Callers = append(s.Callers, call)
		last, fp = fp+8, next
		switches = max(switches, 0)
	}
	return s
}

// call returns the call that returns to addr, if there is a call instruction before it: CALL rel32 or CALL r/m64 (Intel's Software
// Developer's Manual, volume 2, "CALL").
func (m *memory) call(c *CPU, addr uint64) (call Call, ok bool) {
	const longest = 7 // FF /2 with SIB and a displacement of 32 bits; prefixes lie before
	var b [longest]byte
	if addr < longest || m.read(c, addr-longest, b[:]) < longest {
		return call, false
	}
	if b[longest-5] == 0xe8 {
		return Call{addr, addr + uint64(int64(int32(binary.LittleEndian.Uint32(b[longest-4:]))))}, true
	}
	for n := 2; n <= longest; n++ {
		if p := b[longest-n:]; p[0] == 0xff && p[1]>>3&7 == 2 && indirectSize(p[1:]) == n {
			return Call{Return: addr}, true
		}
	}
	return call, false
}

// indirectSize returns the length of an instruction of one byte of opcode by its ModRM byte and what follows.
func indirectSize(modrm []byte) int {
	n := 2
	mod, rm := modrm[0]>>6, modrm[0]&7
	if mod == 3 {
		return n
	}
	base := rm
	if rm == 4 {
		n++
		if len(modrm) < 2 {
			return 0
		}
		base = modrm[1] & 7
	}
	switch {
	case mod == 1:
		n++
	case mod == 2 || mod == 0 && base == 5:
		n += 4
	}
	return n
}
