// Package link turns the kernel as the Go linker leaves it into a kernel file that any PVH loader boots. It runs on the
// host. docs/guest-abi.md describes the file.
package link

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
)

// Package is the kernel's main package.
const Package = "github.com/firstlight-boot/firstlight/kernel/cmd/kernel"

const (
	kernel = "github.com/firstlight-boot/firstlight/kernel/"
	ring0  = kernel + "ring0."
)

// GoBuildArgs returns the arguments of the go command, without the output and the package, that build the kernel's main
// package for Link, and the environment they need. tags choose the kernel's modules.
func GoBuildArgs(tags []string) (args, env []string) {
	// The linker takes a signed address; its text starts in the upper half.
	text := uint64(layout.TextStart)
	args = []string{
		"build", "-trimpath", "-buildvcs=false",
		"-ldflags=" + fmt.Sprintf("-E %sentry -T %d -w -buildid=", ring0, int64(text)),
	}
	if len(tags) > 0 {
		args = append(args, "-tags="+strings.Join(tags, ","))
	}
	// The heap's place is not randomised: the runtime then asks for its address without trying others first, and the kernel's
	// heap is in nobody's reach anyway.
	return args, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOFLAGS=", "GOEXPERIMENT="}
}

// Link returns the kernel file made of an ELF file that the Go linker wrote as GoBuildArgs says. info adds key=value lines to
// the build note.
func Link(goELF []byte, info ...string) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(goELF))
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	if f.Machine != elf.EM_X86_64 || f.Type != elf.ET_EXEC {
		return nil, fmt.Errorf("kernel: %v %v, want an x86-64 executable", f.Machine, f.Type)
	}
	if err := checkStatic(f, goELF); err != nil {
		return nil, err
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("kernel: %w (it must not be stripped)", err)
	}
	want := map[string]uint64{
		ring0 + "markPort": 0, ring0 + "taskState": 0, ring0 + "bootRecord": 0, ring0 + "kernelStack": 0,
		ring0 + "syscallEntry": 0, ring0 + "placed": 0, "runtime.end": 0,
	}
	for _, s := range symbols {
		if v, ok := want[s.Name]; ok && v == 0 {
			want[s.Name] = s.Value
		}
	}
	for name, v := range want {
		if v == 0 {
			return nil, fmt.Errorf("kernel: symbol %s is not there", name)
		}
	}

	type load struct {
		segment
		data []byte
	}
	var loads []load
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		if p.Vaddr < layout.KernelBase+layout.KernelPhys || p.Vaddr%4096 != 0 || p.Filesz > p.Memsz {
			return nil, fmt.Errorf("kernel: segment at %#x is not in the kernel's place", p.Vaddr)
		}
		l := load{segment: segment{
			Virt: p.Vaddr - layout.KernelBase, Phys: p.Vaddr - layout.KernelBase, Size: (p.Filesz + 4095) &^ 4095,
			Write: p.Flags&elf.PF_W != 0, Exec: p.Flags&elf.PF_X != 0,
		}}
		if l.Write && l.Exec {
			return nil, fmt.Errorf("kernel: segment at %#x is both writable and executable", p.Vaddr)
		}
		if l.Exec && l.Phys+l.Size > layout.TextEnd {
			return nil, fmt.Errorf("kernel: code ends at physical address %#x, behind %#x, up to which the direct map is read-only", l.Phys+l.Size, layout.TextEnd)
		}
		l.data = make([]byte, (p.Filesz+4095)&^4095)
		if _, err := p.ReadAt(l.data[:p.Filesz], 0); err != nil {
			return nil, fmt.Errorf("kernel: %w", err)
		}
		loads = append(loads, l)
	}
	if len(loads) == 0 || len(loads) > abi.MaxDiskSegments-3 {
		return nil, fmt.Errorf("kernel: %d segments, want 1 to %d", len(loads), abi.MaxDiskSegments-3)
	}
	sort.Slice(loads, func(i, j int) bool { return loads[i].Phys < loads[j].Phys })
	segments := make([]segment, len(loads))
	for i, l := range loads {
		segments[i] = l.segment
		if i > 0 && l.Phys < segments[i-1].Phys+segments[i-1].Size {
			return nil, fmt.Errorf("kernel: segments overlap at %#x", l.Phys)
		}
	}
	last := &loads[len(loads)-1]
	dataEnd := last.Phys + last.Size
	// The first whole page of the kernel stack is its guard.
	guard := (want[ring0+"kernelStack"] - layout.KernelBase + 4095) &^ 4095
	bss := placeBSS(symbols, dataEnd, want["runtime.end"]-layout.KernelBase, guard)
	imageEnd := dataEnd
	for _, s := range bss {
		imageEnd = s.Phys + s.Size
	}
	segments = append(segments, bss...)
	low := lowSegment(f.Entry, want[ring0+"taskState"], segments)
	if len(low) > layout.MaxLowSize {
		return nil, fmt.Errorf("kernel: it is scattered over so much that its page tables do not fit: %d bytes", len(low))
	}
	le := binary.LittleEndian
	placed := want[ring0+"placed"] - layout.KernelBase - last.Phys
	if placed+24 > uint64(len(last.data)) {
		return nil, errors.New("kernel: the variable placed is not in the data")
	}
	for i, v := range []uint64{layout.LowPhys + uint64(len(low)), dataEnd, imageEnd} {
		le.PutUint64(last.data[placed+uint64(8*i):], v)
	}
	recordPhys := uint64(0)
	for _, s := range segments {
		if v := want[ring0+"bootRecord"] - layout.KernelBase - s.Virt; v < s.Size && s.Size-v >= abi.RecordSize {
			recordPhys = s.Phys + v
		}
	}
	if recordPhys == 0 {
		return nil, errors.New("kernel: the boot record has no place")
	}

	build := strings.Join(append([]string{fmt.Sprintf("abi=%d", abi.Version), "go=" + goVersion(goELF)}, info...), "\n") + "\n"
	notes := note(abi.NoteName, abi.NoteParams, make([]byte, abi.ParamsSize))
	if layout.ParamsPhys != layout.LowPhys+layout.NotesOff+uint64(len(notes))-abi.ParamsSize {
		return nil, errors.New("kernel: the parameter area is not where the guest looks for it")
	}
	record := le.AppendUint64(nil, recordPhys)
	record = le.AppendUint64(record, abi.RecordSize)
	record = le.AppendUint64(record, want[ring0+"markPort"])
	notes = append(notes, note(abi.XenNoteName, abi.XenNotePhys32, le.AppendUint64(nil, layout.Entry32))...)
	notes = append(notes, note(abi.NoteName, abi.NoteRecord, record)...)
	notes = append(notes, note(abi.NoteName, abi.NoteBuild, []byte(build))...)
	if len(notes) > layout.NotesSize {
		return nil, fmt.Errorf("kernel: %d bytes of notes, want at most %d", len(notes), layout.NotesSize)
	}
	copy(low[layout.NotesOff:], notes)

	// The file: headers in the first page, then the segments back to back, each a whole number of pages.
	loads = append([]load{{segment: segment{Phys: layout.LowPhys, Size: uint64(len(low)), Write: true, Exec: true}, data: low}}, loads...)
	out := make([]byte, abi.KernelHeaderSize)
	var progs []elf.Prog64
	for _, l := range loads {
		flags := elf.PF_R
		if l.Write {
			flags |= elf.PF_W
		}
		if l.Exec {
			flags |= elf.PF_X
		}
		vaddr := l.Phys
		if l.Phys >= layout.KernelPhys {
			vaddr += layout.KernelBase
		}
		progs = append(progs, elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(flags), Off: uint64(len(out)), Vaddr: vaddr, Paddr: l.Phys,
			Filesz: uint64(len(l.data)), Memsz: uint64(len(l.data)), Align: 4096,
		})
		out = append(out, l.data...)
	}
	progs = append(progs, elf.Prog64{
		Type: uint32(elf.PT_NOTE), Flags: uint32(elf.PF_R), Off: progs[0].Off + layout.NotesOff,
		Vaddr: layout.LowPhys + layout.NotesOff, Paddr: layout.LowPhys + layout.NotesOff,
		Filesz: uint64(len(notes)), Memsz: uint64(len(notes)), Align: 4,
	})
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Entry: layout.Entry32,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(progs)), Shentsize: 64,
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	header.Ident[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	var h bytes.Buffer
	binary.Write(&h, le, header) // to memory: cannot fail
	binary.Write(&h, le, progs)
	copy(out, h.Bytes())
	return out, nil
}

// contextPackages are those whose variables kernel context uses, where no page fault is served.
var contextPackages = []string{"ring0.", "mem.", "cpu."}

// placeBSS gives the pages of BSS between two addresses, less KernelBase, their places behind the data. A page that lies within one
// large variable of ordinary Go gets none: it is mapped when it is touched.
func placeBSS(symbols []elf.Symbol, dataEnd, end, guard uint64) []segment {
	const large = 16 << 10
	lazy := make(map[uint64]bool)
	for _, s := range symbols {
		if s.Size < large || s.Value < layout.KernelBase+dataEnd {
			continue
		}
		inContext := false
		for _, p := range contextPackages {
			inContext = inContext || strings.HasPrefix(s.Name, kernel+p)
		}
		start := s.Value - layout.KernelBase
		for page := (start + 4095) &^ 4095; !inContext && page+4096 <= start+s.Size; page += 4096 {
			lazy[page] = true
		}
	}
	lazy[guard] = true
	var placed []segment
	phys := dataEnd
	for page := dataEnd; page < end; page += 4096 {
		if lazy[page] {
			continue
		}
		if n := len(placed); n > 0 && placed[n-1].Virt+placed[n-1].Size == page {
			placed[n-1].Size += 4096
		} else {
			placed = append(placed, segment{Virt: page, Phys: phys, Size: 4096, Write: true})
		}
		phys += 4096
	}
	return placed
}

// checkStatic refuses what needs more than to be placed in memory: a loader that relocates it, or C's start-up code.
func checkStatic(f *elf.File, goELF []byte) error {
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return errors.New("kernel: dynamically linked: build it with CGO_ENABLED=0")
		}
	}
	for _, s := range f.Sections {
		switch s.Type {
		case elf.SHT_DYNAMIC:
			return errors.New("kernel: dynamically linked: build it with CGO_ENABLED=0")
		case elf.SHT_REL, elf.SHT_RELA:
			var first [16]byte // r_offset, r_info
			if n, _ := s.ReadAt(first[:], 0); n == len(first) {
				return fmt.Errorf("kernel: section %s has relocations, the first of type %v: the Go linker did not place all at fixed addresses",
					s.Name, elf.R_X86_64(binary.LittleEndian.Uint32(first[8:])))
			}
		}
	}
	info, err := buildinfo.Read(bytes.NewReader(goELF))
	if err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	for _, s := range info.Settings {
		if s.Key == "CGO_ENABLED" && s.Value != "0" {
			return errors.New("kernel: built with cgo: build it with CGO_ENABLED=0")
		}
	}
	return nil
}

// goVersion returns the Go version that built an ELF file, from its build information.
func goVersion(goELF []byte) string {
	info, err := buildinfo.Read(bytes.NewReader(goELF))
	if err != nil {
		return "unknown"
	}
	return info.GoVersion
}

// note returns an ELF note; name and descriptor are padded to four bytes.
func note(name string, kind uint32, desc []byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(len(name)+1))
	b = le.AppendUint32(b, uint32(len(desc)))
	b = le.AppendUint32(b, kind)
	b = append(b, name...)
	b = append(b, make([]byte, 4-len(name)%4)...)
	b = append(b, desc...)
	return append(b, make([]byte, -len(desc)&3)...)
}
