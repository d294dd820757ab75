package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// Images of flavour linux. Their root is either a RAMFS image, which is the kernel's initial RAM file system, or a file system
// that the kernel mounts from the image as a disk. What QEMU loads of them, kernel and initial RAM file system, it is given as
// files of its own.

// LinuxAppend is what a Linux kernel is told unless Params.Append says otherwise: the console that bootprof listens to, to
// end at the app's end by a triple fault (on machines without a keyboard controller, Linux tries that first, for seconds), and
// to keep to itself what is no trouble.
const LinuxAppend = "console=ttyS0 reboot=t panic=-1 quiet"

// linuxTypes are Linux's names of the file systems that it mounts from a disk, by their modules.
var linuxTypes = map[string]string{"ext4": "ext4", "erofs": "erofs", "squashfs": "squashfs", "iso": "iso9660", "fat": "vfat"}

const ramfsModule = "ramfs"

// Limits of Linux's command line: COMMAND_LINE_SIZE of arch/x86/include/asm/setup.h less its NUL, and MAX_INIT_ARGS and
// MAX_INIT_ENVS of init/main.c, of which HOME and TERM take two.
const (
	maxLinuxLine = 2047
	maxLinuxArgs = 32
	maxLinuxEnv  = 31
)

// Offsets in a bzImage, after Documentation/arch/x86/boot.rst, section "The Real-Mode Kernel Header".
const (
	bzSetupSects = 0x1f1
	bzSysSize    = 0x1f4 // of the protected-mode code, in units of 16 bytes
	bzBootFlag   = 0x1fe
	bzHeader     = 0x202
	bzVersion    = 0x206
	bzLoadFlags  = 0x211
	bzMinHeader  = 0x212
)

// CheckLinux tells whether a kernel file is one that QEMU boots as Linux: a bzImage, or an ELF file with a PVH note.
func CheckLinux(file []byte) error {
	bad := func(off int64, field, format string, args ...any) error {
		return &FormatError{"kernel", off, field, fmt.Errorf(format, args...)}
	}
	le := binary.LittleEndian
	switch {
	case bytes.HasPrefix(file, []byte("\x7fELF")):
		return checkPVH(file)
	case bytes.HasPrefix(file, []byte("\x1f\x8b")):
		return bad(0, "start", "%w: a compressed file; unpack it by gzip -d first", ErrUnsupported)
	case len(file) >= 0x40 && string(file[0x38:0x3c]) == "ARM\x64":
		return bad(0x38, "start", "%w: a kernel for arm64, and the guest is an x86-64", ErrUnsupported)
	case len(file) < bzMinHeader || le.Uint16(file[bzBootFlag:]) != 0xaa55 || string(file[bzHeader:bzHeader+4]) != "HdrS":
		return bad(0, "start", "%w: neither a bzImage nor an ELF file; want the file called vmlinuz or bzImage", ErrUnsupported)
	}
	if v := le.Uint16(file[bzVersion:]); v < 0x0204 || file[bzLoadFlags]&1 == 0 {
		return bad(bzVersion, "boot protocol", "%w: version %d.%02d of a kernel loaded low; want a bzImage of 2.04 or later", ErrUnsupported, v>>8, v&0xff)
	}
	sectors := int64(file[bzSetupSects])
	if sectors == 0 {
		sectors = 4
	}
	if want := (sectors+1)*512 + 16*int64(le.Uint32(file[bzSysSize:])); want > int64(len(file)) {
		return bad(bzSysSize, "size", "%w: the header says %d bytes, the file has %d: it is truncated", ErrDamaged, want, len(file))
	}
	return nil
}

// checkPVH looks for the PVH entry in the notes of an ELF file of x86.
func checkPVH(file []byte) error {
	bad := func(off int64, field, format string, args ...any) error {
		return &FormatError{"kernel", off, field, fmt.Errorf(format, args...)}
	}
	le := binary.LittleEndian
	if len(file) < elfHeaderSize || file[4] != 2 || file[5] != 1 || le.Uint16(file[ehMachine:]) != 62 {
		return bad(4, "ELF header", "%w: not a 64-bit x86 file", ErrUnsupported)
	}
	off, n := le.Uint64(file[ehPhoff:]), uint64(le.Uint16(file[ehPhnum:]))
	if le.Uint16(file[ehPhentsize:]) != progSize || off > uint64(len(file)) || n*progSize > uint64(len(file))-off {
		return bad(ehPhoff, "program headers", "%w: they do not lie in the file's %d bytes", ErrDamaged, len(file))
	}
	pvh := false
	for i := range n {
		at := off + i*progSize
		p := file[at:][:progSize]
		po, size := le.Uint64(p[phOffset:]), le.Uint64(p[phFilesz:])
		if po > uint64(len(file)) || size > uint64(len(file))-po {
			return bad(int64(at)+phOffset, "segment", "%w: bytes %d + %d lie beyond the file's end at %d", ErrDamaged, po, size, len(file))
		}
		if le.Uint32(p[phType:]) == ptNote {
			pvh = pvh || hasPVH(file[po:po+size])
		}
	}
	if !pvh {
		return bad(int64(off), "program headers", "%w: no PVH note, so QEMU cannot boot it; use bzImage, or vmlinux built with CONFIG_PVH", ErrUnsupported)
	}
	return nil
}

func hasPVH(notes []byte) bool {
	le := binary.LittleEndian
	for b := notes; len(b) >= 12; {
		nameLen, descLen := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:]))
		descAt := 12 + (nameLen+3)&^3
		if descAt+descLen > uint64(len(b)) {
			return false
		}
		if le.Uint32(b[8:]) == abi.XenNotePhys32 && string(bytes.TrimRight(b[12:12+nameLen], "\x00")) == abi.XenNoteName {
			return true
		}
		b = b[min(descAt+(descLen+3)&^3, uint64(len(b))):]
	}
	return false
}

// LinuxCommandLine returns the command line of a kernel of flavour linux that boots p: its own parameters, more, where the
// root is, which program is the first, and its environment and arguments, then args. Linux hands parameters that it does not
// know to the first program, those with = as environment, and what follows -- as arguments (init/main.c).
func (p *Params) LinuxCommandLine(more string, args ...string) (string, error) {
	words := slices.Concat(strings.Fields(p.Append), []string{more})
	var err error
	add := func(what, word string) {
		q, ok := quoteLinux(word)
		if !ok && err == nil {
			err = fmt.Errorf("%s %q: %w: Linux's command line holds no double quotes and no NUL", what, word, ErrUnsupported)
		}
		words = append(words, q)
	}
	init := "rdinit="
	if p.Root.Module != ramfsModule {
		fsType, ok := linuxTypes[p.Root.Module]
		if !ok {
			return "", fmt.Errorf("file system %s: %w: Linux cannot mount it; use %s, %s", p.Root.Module, ErrUnsupported, ramfsModule, strings.Join(slices.Sorted(maps.Keys(linuxTypes)), ", "))
		}
		root, _ := p.find(PartRoot)
		init = "init="
		words = append(words, "root=PARTUUID="+strings.ToLower(partitionGUID(root).String()), "rootfstype="+fsType, "ro")
	}
	if len(p.Args) == 0 {
		return "", errors.New("no command")
	}
	add("command", init+p.Args[0])
	if p.Cwd != "" && p.Cwd != "/" {
		return "", fmt.Errorf("working directory %s: %w by Linux, which starts the first program in /", p.Cwd, ErrUnsupported)
	}
	if len(p.Env) > maxLinuxEnv {
		return "", fmt.Errorf("%d variables in the environment: %w: Linux hands on %d", len(p.Env), ErrTooLarge, maxLinuxEnv)
	}
	for _, e := range p.Env {
		if k, _, _ := strings.Cut(e, "="); strings.ContainsAny(k, ". \t\n\v\f\r") || k == "" {
			return "", fmt.Errorf("environment variable %q: %w: a name with a dot or a space is none to Linux", k, ErrUnsupported)
		}
		add("environment variable", e)
	}
	args = slices.Concat(p.Args[1:], args)
	if len(args) > maxLinuxArgs {
		return "", fmt.Errorf("%d arguments: %w: Linux hands on %d", len(args), ErrTooLarge, maxLinuxArgs)
	}
	if len(args) > 0 {
		words = append(words, "--")
	}
	for _, a := range args {
		if a == "--" {
			return "", fmt.Errorf("argument --: %w: Linux hands on nothing behind a second one", ErrUnsupported)
		}
		add("argument", a)
	}
	if err != nil {
		return "", err
	}
	line := strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
	if len(line) > maxLinuxLine {
		return "", fmt.Errorf("command line of %d bytes: %w: Linux takes %d", len(line), ErrTooLarge, maxLinuxLine)
	}
	return line, nil
}

// quoteLinux spells a word so that next_arg of Linux's lib/cmdline.c reads it back. That takes the byte a0 for a space.
func quoteLinux(s string) (string, bool) {
	if strings.ContainsAny(s, "\"\x00") {
		return s, false
	}
	if s != "" && !strings.ContainsAny(s, " \t\n\v\f\r") && strings.IndexByte(s, 0xa0) < 0 {
		return s, true
	}
	if k, v, ok := strings.Cut(s, "="); ok && !strings.ContainsAny(k, " \t\n\v\f\r") && strings.IndexByte(k, 0xa0) < 0 {
		return k + `="` + v + `"`, true
	}
	return `"` + s + `"`, true
}

// partitionGUID is the GUID that a partition has in the GPT.
func partitionGUID(q Partition) guid {
	return makeGUID([]byte(q.Name), []byte{0}, []byte(q.SHA256))
}
