package bootprof

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
	_ "github.com/firstlight-boot/firstlight/fsmod/ramfsmod" // to tell a file system without a kernel from anything else
	_ "github.com/firstlight-boot/firstlight/fsmod/rofs1mod" // the root of OSv's disks
	_ "github.com/firstlight-boot/firstlight/fsmod/rofsmod"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
	"github.com/firstlight-boot/firstlight/symbols"
)

// flavourOSv is an OSv kernel.
const flavourOSv = "osv"

// flavourOther is a kernel of a kind that is not known: it boots, and what it shows from outside is measured.
const flavourOther = "other"

// flavours are the values of --flavour.
var flavours = []string{image.FlavourNative, image.FlavourLinux, flavourOSv, flavourOther}

// target is what is to be booted.
type target struct {
	name    string        // as the user gave it
	flavour string        // of the kernel
	kernel  string        // path
	initrd  string        // path; "" if the target brings none
	disks   []string      // paths
	params  *image.Params // of an image, or else nil
	id      string        // of an image, by its content
	appends bool          // params make the kernel's command line
	files   []*os.File    // kernel and initrd, if those are files for as long as these are open

	record   int64  // physical address of the boot record; 0: the kernel has none
	mark     uint64 // virtual address of the instruction that writes marks; 0: not known
	segments []elf.ProgHeader
	entry    uint64 // physical address of the kernel's first instruction; 0: not known

	entryCode  []byte // what stands there; nil: not known
	unpackCode []byte // what a bzImage's protected-mode code begins with; nil: it is none
	unpackAt   int64  // where that is in the file

	object    *symbols.Object // of the kernel, once it was asked for
	noSymbols error           // why there are none
}

// openImage opens an image of ours.
func openImage(path string) (*target, error) {
	img, err := image.Open(path)
	if err != nil {
		if errors.Is(err, image.ErrFormat) && isKernel(path) {
			return nil, usagef("%s is a kernel, not an image; boot it with --kernel %[1]s", path)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil, usagef("%w", err)
		}
		return nil, usagef("%w; imgbuild makes images, and imgbuild verify says more about a damaged one", err)
	}
	defer img.Close()
	if img.OSv != nil {
		return nil, usagef("%s is a disk for OSv; boot it with --kernel loader-stripped.elf --flavour %s --disk %[1]s", path, flavourOSv)
	}
	if img.Params == nil {
		return nil, usagef("%s is a file system without a kernel; boot it with --kernel KERNEL --disk %[1]s", path)
	}
	if img.Params.Flavour != image.FlavourNative {
		return nil, usagef("%s has a kernel of flavour %q, and only bootprof qemu boots such an image; elsewhere boot its parts", path, img.Params.Flavour)
	}
	t := &target{name: path, flavour: img.Params.Flavour, kernel: path, disks: []string{path}, params: img.Params, id: img.ID()}
	if err := t.inspect(); err != nil {
		return nil, err
	}
	if t.record == 0 {
		return nil, usagef("%s: its kernel has no boot record; imgbuild verify says more", path)
	}
	return t, nil
}

// openLinux opens an image of flavour linux, of which QEMU is given kernel and initial RAM file system as files of their own; nil if
// it is of another flavour, or none at all. The files live as long as the target.
func openLinux(path string) (*target, error) {
	img, err := image.Open(path)
	if err != nil {
		return nil, nil // openImage says it better
	}
	defer img.Close()
	if img.Params == nil || img.Params.Flavour != image.FlavourLinux {
		return nil, nil
	}
	t := &target{name: path, flavour: image.FlavourLinux, params: img.Params, id: img.ID(), appends: true}
	if t.kernel, err = t.partFile(img, image.PartKernel); err != nil {
		return nil, fmt.Errorf("%s: kernel: %w", path, err)
	}
	if img.Params.Root.Module == "ramfs" {
		if t.initrd, err = t.partFile(img, image.PartRoot); err != nil {
			return nil, fmt.Errorf("%s: initial RAM file system: %w", path, err)
		}
	} else {
		t.disks = []string{path}
		if _, ok := img.Partition(image.PartInitrd); ok {
			if t.initrd, err = t.partFile(img, image.PartInitrd); err != nil {
				return nil, fmt.Errorf("%s: initial RAM disk: %w", path, err)
			}
		}
	}
	if _, err := t.params.LinuxCommandLine(""); err != nil {
		return nil, usagef("%s: %w", path, err)
	}
	return t, t.inspect()
}

// partFile returns the name of a file with the content of one of an image's partitions, under which other processes of this user
// find it too.
func (t *target) partFile(img *image.Image, part string) (string, error) {
	r, ok := img.Partition(part)
	if !ok {
		return "", fmt.Errorf("the image has no partition %s", part)
	}
	f, name, err := memoryFile(part)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return "", err
	}
	t.files = append(t.files, f)
	return name, nil
}

// unpacked returns the shell commands that make the files of an image of flavour linux which c then names, in place of those that
// live no longer than this process.
func (t *target) unpacked(c *qemu.Config) string {
	if len(t.files) == 0 {
		return ""
	}
	var b strings.Builder
	for _, q := range t.params.Partitions {
		var name *string
		switch {
		case q.Name == image.PartKernel:
			name = &c.Kernel
			*name = t.stem() + ".vmlinuz"
		case (q.Name == image.PartInitrd || q.Name == image.PartRoot && t.params.Root.Module == "ramfs") && c.Initrd != "" && c.Initrd == t.initrd:
			name = &c.Initrd
			*name = t.stem() + ".initrd"
		default:
			continue
		}
		fmt.Fprintf(&b, "dd if=%s of=%s iflag=skip_bytes,count_bytes skip=%d count=%d status=none\n", shellWord(t.name), shellWord(*name), q.Offset, q.Length)
	}
	return b.String()
}

// shellWord quotes a word for a POSIX shell.
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// initEnd returns how the first program of a Linux guest ended, after which the kernel panics (kernel/exit.c): with an exit status
// as wait(2) has it.
func initEnd(console []byte) *boottrace.End {
	const message = "Attempted to kill init! exitcode=0x"
	at := bytes.Index(console, []byte(message))
	if at < 0 || len(console) < at+len(message)+8 || !linuxPanicked(console) {
		return nil
	}
	v, err := strconv.ParseUint(string(console[at+len(message):][:8]), 16, 32)
	if err != nil {
		return nil
	}
	if signal := uint32(v & 0x7f); signal != 0 {
		return &boottrace.End{How: abi.EndKilled, Code: signal}
	}
	return &boottrace.End{How: abi.EndExited, Code: uint32(v >> 8 & 0xff)}
}

// openKernel opens a kernel file of any kind that QEMU boots. Its headers tell the flavour, unless one is given.
func openKernel(path, flavour string) (*target, error) {
	if flavour != "" && !slices.Contains(flavours, flavour) {
		return nil, usagef("--flavour %q: want %s", flavour, strings.Join(flavours, ", "))
	}
	t := &target{name: path, flavour: flavourOther, kernel: path}
	if err := t.inspect(); err != nil {
		return nil, err
	}
	switch {
	case flavour == "" || flavour == t.flavour:
	case flavour == image.FlavourNative:
		return nil, usagef("%s is no Firstlight kernel: it has no boot record; want --flavour linux, osv or other", path)
	case t.flavour == image.FlavourNative:
		return nil, usagef("%s is a Firstlight kernel; want --flavour %s, or none", path, image.FlavourNative)
	default:
		t.flavour = flavour
	}
	return t, nil
}

func isKernel(path string) bool {
	_, err := openKernel(path, "")
	return err == nil
}

// inspect reads what the kernel's headers tell. A kernel that QEMU cannot boot is a usage error.
func (t *target) inspect() error {
	f, err := os.Open(t.kernel)
	if err != nil {
		return usagef("%w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return usagef("%w", err)
	} else if st.IsDir() {
		return usagef("%s is a folder, not a kernel", t.kernel)
	}
	if isBzImage(f) {
		t.flavour, t.entry = image.FlavourLinux, bzImageSetup
		t.entryCode, t.unpackCode, t.unpackAt = bzImageCode(f)
		return nil
	}
	e, err := elf.NewFile(f)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the file is truncated")
	}
	if err != nil {
		return usagef("%s is no kernel that QEMU boots, which are ELF files with a PVH note and Linux's bzImage: %w", t.kernel, err)
	}
	if e.Class != elf.ELFCLASS64 && e.Class != elf.ELFCLASS32 || e.Machine != elf.EM_X86_64 && e.Machine != elf.EM_386 {
		return usagef("%s is a kernel for %v, and the guest is an x86-64", t.kernel, e.Machine)
	}
	pvh := false
	for _, p := range e.Progs {
		switch p.Type {
		case elf.PT_LOAD:
			t.segments = append(t.segments, p.ProgHeader)
		case elf.PT_NOTE:
			found, err := t.notes(p)
			if err != nil {
				return usagef("%s: notes at byte %d: %w", t.kernel, p.Off, err)
			}
			pvh = pvh || found
		}
	}
	if !pvh {
		return usagef("%s has no PVH note, so QEMU cannot boot it; of a Linux, use vmlinux built with CONFIG_PVH, or bzImage", t.kernel)
	}
	return nil
}

// isBzImage looks for the header of Linux's boot protocol (Documentation/arch/x86/boot.rst, section "The Real-Mode Kernel
// Header").
func isBzImage(r io.ReaderAt) bool {
	b := make([]byte, 8)
	_, err := r.ReadAt(b, 0x1fe)
	return err == nil && b[0] == 0x55 && b[1] == 0xaa && string(b[4:8]) == "HdrS"
}

// bzImageCode returns the instruction that a bzImage's setup code begins with, a jump over its header, and the first bytes of its
// protected-mode code, which comes after its boot sector and setup sectors, with its offset.
func bzImageCode(r io.ReaderAt) (setup, unpack []byte, unpackAt int64) {
	sectors := make([]byte, 1)
	setup, unpack = make([]byte, 2), make([]byte, plugin.MaxCode)
	if _, err := r.ReadAt(sectors, 0x1f1); err != nil {
		return nil, nil, 0
	}
	if sectors[0] == 0 {
		sectors[0] = 4
	}
	unpackAt = (int64(sectors[0]) + 1) * 512
	if _, err := r.ReadAt(unpack, unpackAt); err != nil {
		return nil, nil, 0
	}
	if _, err := r.ReadAt(setup, 0x200); err != nil {
		return nil, nil, 0
	}
	return setup, unpack, unpackAt
}

// maxNotes bounds the notes of a kernel in bytes.
const maxNotes = 1 << 20

// notes reads a segment of notes: it tells whether the PVH entry is among them, and keeps what our kernel says in its own.
func (t *target) notes(p *elf.Prog) (pvh bool, err error) {
	if p.Filesz > maxNotes {
		return false, fmt.Errorf("%d bytes of notes are too many", p.Filesz)
	}
	b, err := io.ReadAll(io.NewSectionReader(p, 0, int64(p.Filesz)))
	if err != nil {
		return false, err
	}
	if uint64(len(b)) < p.Filesz {
		return false, errors.New("the file is truncated")
	}
	le := binary.LittleEndian
	align := uint64(4)
	if p.Align == 8 {
		align = 8
	}
	for len(b) >= 12 {
		nameLen, descLen, typ := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
		descAt := (12 + nameLen + align - 1) &^ (align - 1)
		if descAt+descLen > uint64(len(b)) {
			return false, errors.New("a note is longer than its segment")
		}
		name := strings.TrimRight(string(b[12:12+nameLen]), "\x00")
		desc := b[descAt:][:descLen]
		b = b[min((descAt+descLen+align-1)&^(align-1), uint64(len(b))):]
		switch {
		case name == abi.XenNoteName && typ == abi.XenNotePhys32:
			pvh = true
			switch len(desc) {
			case 4:
				t.entry = uint64(le.Uint32(desc))
			case 8:
				t.entry = le.Uint64(desc)
			}
		case name == "Linux" && t.flavour == flavourOther:
			t.flavour = image.FlavourLinux
		case name == abi.NoteName && typ == abi.NoteRecord && len(desc) == 24:
			t.flavour = image.FlavourNative
			t.record, t.mark = int64(le.Uint64(desc)), le.Uint64(desc[16:])
		case name == abi.NoteName && typ == abi.NoteBuild:
			if lines := strings.Fields(string(desc)); !slices.Contains(lines, fmt.Sprintf("abi=%d", abi.Version)) {
				return false, fmt.Errorf("the kernel speaks another version of the guest ABI than this program's %d; build both from the same version", abi.Version)
			}
		}
	}
	return pvh, nil
}

// osvLine returns the command line of an OSv kernel: the user's, or else the one on the first of the disks, if that is OSv's. A
// kernel of unknown kind is OSv's if its disk is; the flag says otherwise.
func (t *target) osvLine(line string, disks []string, flavour string) string {
	if len(disks) == 0 || t.flavour != flavourOSv && (t.flavour != flavourOther || flavour != "") {
		return line
	}
	img, err := image.Open(disks[0])
	if err != nil {
		return line // any disk will do, of which no more needs to be known
	}
	defer img.Close()
	if img.OSv == nil {
		return line
	}
	t.flavour = flavourOSv
	if line == "" {
		line = img.OSv.CommandLine
	}
	return line
}

// stem is the target's base name without its extension.
func (t *target) stem() string {
	base := filepath.Base(t.name)
	if s := strings.TrimSuffix(base, filepath.Ext(base)); s != "" {
		return s
	}
	return base
}

// commandLine returns the command line of the target's kernel: the image's own, if it does not lie in the kernel, the user's, and the
// app's further arguments.
func (t *target) commandLine(line string, args []string) (string, error) {
	if !t.appends {
		if len(args) > 0 {
			line = t.appendArgs(line, args)
		}
		return line, nil
	}
	line, err := t.params.LinuxCommandLine(line, args...)
	if err != nil {
		return "", usagef("%s: %w", t.name, err)
	}
	return line, nil
}

// appendArgs adds the app's arguments to a kernel command line, in the spelling of the target's kernel.
func (t *target) appendArgs(line string, args []string) string {
	var words []string
	if line != "" {
		words = append(words, line)
	}
	switch t.flavour {
	case image.FlavourNative:
		for _, a := range args {
			words = append(words, "arg="+escapeWord(a))
		}
	case flavourOSv:
		// What follows the options is the app and its arguments (core/commands.cc).
		for _, a := range args {
			words = append(words, quoteWord(a))
		}
	default:
		// What follows -- goes to init, Linux says; double quotes keep spaces together.
		words = append(words, "--")
		for _, a := range args {
			words = append(words, quoteWord(a))
		}
	}
	return strings.Join(words, " ")
}

// quoteWord puts a word with spaces into double quotes.
func quoteWord(s string) string {
	if strings.ContainsAny(s, " \t\n") || s == "" {
		return `"` + s + `"`
	}
	return s
}

// escapeWord spells a word for our kernel's command line: a backslash takes the next byte as it is.
func escapeWord(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c == '\\' || c <= ' ' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
