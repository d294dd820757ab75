// Package hyperkit runs one virtual machine under hyperkit, the hypervisor of macOS on x86-64 (github.com/moby/hyperkit): it
// turns a Config into an argv as hyperkit's own parser takes it, checks what hyperkit would answer with abort(), supervises
// the process and says how it ended.
//
// A Config is checked and turned into an argv on every system; only Run needs hyperkit.
package hyperkit

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that callers tell apart with errors.Is. The text of the error that wraps them says what to do.
var (
	ErrConfig   = errors.New("bad machine configuration")
	ErrNotFound = errors.New("hyperkit is not installed")
	ErrSystem   = errors.New("hyperkit runs on macOS only")
	ErrKernel   = errors.New("hyperkit cannot load this kernel")
)

// Limits of hyperkit.
const (
	DefaultMemory = 64 << 20
	MaxMemory     = 1 << 40
	maxDisks      = 26 // slots 2 to 27: 0 is the host bridge's, 31 the LPC's, and some are left for who edits the argv
)

// Config describes a virtual machine: the kernel is entered directly, the first serial port is standard output. There is no
// network. Same Config, same argv.
type Config struct {
	Kernel      string   // path of a bzImage; ELF files hyperkit does not load
	Initrd      string   // path; optional
	CommandLine string   // may hold commas
	MemoryBytes int64    // a multiple of 1 MiB; default DefaultMemory
	Disks       []string // paths of raw images, attached read-only as legacy virtio-blk on PCI
}

// Args returns hyperkit's arguments for c, argv[0] excluded. The error wraps ErrConfig.
//
// The grammar is that of hyperkit.c (main, firmware_parse), pci_emul.c (pci_parse_slot), block_if.c (blockif_open) and
// pci_lpc.c (lpc_device_parse): every option's value is split at commas and nothing can quote one, so a path with a comma
// cannot be passed. Of -f only the first three commas split, so a command line may have some. An empty command line becomes
// "auto" there, so none is passed as a blank.
func (c Config) Args() ([]string, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	memory := c.MemoryBytes
	if memory == 0 {
		memory = DefaultMemory
	}
	line := c.CommandLine
	if line == "" {
		line = " "
	}
	a := []string{
		"-A",      // ACPI tables
		"-u",      // the clock is UTC
		"-c", "1", // one CPU
		"-m", fmt.Sprintf("%dM", memory>>20),
		"-s", "0:0,hostbridge",
		"-s", "31,lpc", // which has the serial port
		"-l", "com1,stdio",
	}
	for i, disk := range c.Disks {
		a = append(a, "-s", fmt.Sprintf("%d:0,virtio-blk,%s,ro", 2+i, disk))
	}
	return append(a, "-f", "kexec,"+c.Kernel+","+c.Initrd+","+line), nil
}

func (c Config) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...)
	}
	switch {
	case c.Kernel == "":
		return bad("there is no kernel")
	case c.MemoryBytes < 0 || c.MemoryBytes > MaxMemory || c.MemoryBytes%(1<<20) != 0:
		return bad("memory of %d bytes: want whole MiB, at most 1 TiB", c.MemoryBytes)
	case len(c.Disks) > maxDisks:
		return bad("%d disks: want at most %d", len(c.Disks), maxDisks)
	case strings.Contains(c.CommandLine, "\x00"):
		return bad("the command line has a NUL byte")
	}
	for _, path := range append([]string{c.Kernel, c.Initrd}, c.Disks...) {
		if strings.ContainsAny(path, ",\x00") {
			return bad("%q: hyperkit splits its options at commas and has no way to quote one; rename or link the file", path)
		}
	}
	for _, path := range c.Disks {
		if path == "" {
			return bad("the path of a disk is empty")
		}
	}
	return nil
}

// CommandLine returns c as a line for a POSIX shell that runs the hyperkit at path.
func CommandLine(path string, c Config) (string, error) {
	args, err := c.Args()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(quote(path))
	for _, word := range args {
		b.WriteString(" " + quote(word))
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
