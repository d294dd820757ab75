package sample

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// CPU is what the monitor's command "info registers -a" says about one virtual CPU, as far as a sample needs it.
type CPU struct {
	Index      int
	PC         uint64 // linear: the code segment's base is added
	FP, SP     uint64
	CR3, CR4   uint64
	Privileged bool // not in ring 3
	Halted     bool
	Long       bool // executes 64-bit code
	Paging     bool
}

// ErrRegisters is what the monitor says in a form that is not known here.
var ErrRegisters = errors.New("the monitor's registers cannot be read")

// Bits of control registers.
const (
	cr0Paging = 1 << 31
	cr4LA57   = 1 << 12
)

// maxCPUs bounds the virtual CPUs of a guest: QEMU's own limit for q35 is 288.
const maxCPUs = 1024

// ParseRegisters reads the monitor's answer, whose form is that of x86_cpu_dump_state (QEMU, target/i386/cpu-dump.c): words
// NAME=HEX, of segments followed by base, limit and flags. A CPU that is not in a 64-bit code segment has the 32-bit names.
func ParseRegisters(text string) ([]CPU, error) {
	var all []CPU
	for i, part := range strings.Split("\n"+text, "\nCPU#")[1:] {
		if i == maxCPUs {
			return nil, fmt.Errorf("%w: more than %d CPUs", ErrRegisters, maxCPUs)
		}
		c, err := parseCPU(part)
		if err != nil {
			return nil, fmt.Errorf("%w: CPU %d of the answer: %w", ErrRegisters, i, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: %.80q", ErrRegisters, text)
	}
	return all, nil
}

func parseCPU(text string) (c CPU, err error) {
	first, text, _ := strings.Cut(strings.ReplaceAll(text, "\r", ""), "\n")
	if c.Index, err = strconv.Atoi(strings.TrimSpace(first)); err != nil || c.Index < 0 || c.Index >= maxCPUs {
		return c, fmt.Errorf("its number is %.20q", first)
	}
	value := make(map[string]uint64)
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "CS ="); ok {
			f := strings.Fields(rest) // selector, base, limit, flags
			if len(f) < 2 {
				return c, fmt.Errorf("CS is %.40q", rest)
			}
			if value["CS"], err = strconv.ParseUint(f[1], 16, 64); err != nil {
				return c, fmt.Errorf("CS: %w", err)
			}
			continue
		}
		if strings.HasPrefix(line, "FCW=") {
			break // what follows are the registers of numbers
		}
		for word := range strings.FieldsSeq(line) {
			name, hex, ok := strings.Cut(word, "=")
			if !ok {
				continue
			}
			switch name {
			case "RIP", "EIP", "RBP", "EBP", "RSP", "ESP", "CPL", "HLT", "CR0", "CR3", "CR4":
				if value[name], err = strconv.ParseUint(hex, 16, 64); err != nil {
					return c, fmt.Errorf("%s: %w", name, err)
				}
			}
		}
	}
	get := func(names ...string) uint64 {
		for _, n := range names {
			if v, ok := value[n]; ok {
				return v
			}
		}
		err = fmt.Errorf("it has no %s", names[0])
		return 0
	}
	_, c.Long = value["RIP"]
	c.PC = get("RIP", "EIP") + get("CS")
	c.FP, c.SP = get("RBP", "EBP"), get("RSP", "ESP")
	c.CR3, c.CR4 = get("CR3"), get("CR4")
	c.Paging = get("CR0")&cr0Paging != 0
	c.Privileged = get("CPL") != 3
	c.Halted = get("HLT") != 0
	return c, err
}
