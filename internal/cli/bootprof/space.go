package bootprof

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/symbols"
)

// Where kernels and programs live on x86-64: the halves of the canonical addresses, and the 2 MiB that kernels are moved by.
const (
	upperHalf   = 0xffff_8000_0000_0000
	kernelHalf  = 0xffff_ffff_8000_0000
	kernelAlign = 2 << 20
	pageAlign   = 4096
	lowMemory   = 1 << 32
)

// space is what the addresses of a guest mean.
type space struct {
	symbols.Space
	objects []*symbols.Object // that Open opened
	notes   []string
}

// openSpace finds the symbols of a target, and where they were mapped, from code that was executed.
func (p *plan) openSpace(seen []symbols.Seen) (*space, error) {
	s := new(space)
	// The firmware's ROM, and its shadow below 1 MiB. What a kernel or a program has there hides it.
	s.Add(symbols.Mapping{Name: frameFirmware, Start: 0xc0000, Limit: 1 << 20})
	s.Add(symbols.Mapping{Name: frameFirmware, Start: lowMemory - 4<<20, Limit: lowMemory})
	kernel, err := symbols.Open(p.target.kernel, symbols.Options{})
	switch {
	case errors.Is(err, symbols.ErrUnsupported) || errors.Is(err, symbols.ErrFormat):
		s.note("the kernel's functions have no names: %v", err)
	case err != nil:
		return nil, err
	default:
		s.objects = append(s.objects, kernel)
		s.kernel(p.target, kernel, seen)
	}
	var users []symbols.Seen
	for _, c := range seen {
		if c.Addr < upperHalf {
			users = append(users, c)
		}
	}
	s.programs(p, users)
	return s, nil
}

func (s *space) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

func (s *space) close() {
	for _, o := range s.objects {
		o.Close()
	}
}

// kernel maps the kernel's code.
func (s *space) kernel(t *target, o *symbols.Object, seen []symbols.Seen) {
	for _, n := range o.Notices() {
		s.note("%s", n)
	}
	var bias uint64
	if t.flavour == image.FlavourLinux {
		var upper []symbols.Seen
		for _, c := range seen {
			if c.Addr >= kernelHalf {
				upper = append(upper, c)
			}
		}
		b, _, ok := symbols.Bias(o, upper, kernelAlign)
		if !ok {
			s.note("%s does not hold the code that was executed, so its symbols were not used", o.Name())
			return
		}
		bias = b
		// What runs below 4 GiB before that is the part that unpacks the kernel, which has no symbols. Programs, which are
		// mapped later, hide it.
		s.Add(symbols.Mapping{Name: "decompressor", Start: 1 << 20, Limit: lowMemory})
	}
	for _, r := range o.Text() {
		m := symbols.Mapping{Name: "kernel", Start: r.Start + bias, Limit: r.Limit + bias, Bias: bias, Object: o, Offset: r.Offset}
		if r.Start < lowMemory && len(o.Lookup(r.Start)) == 0 && t.flavour == image.FlavourNative {
			m.Name, m.Object = "kernel entry", nil // the few instructions before the upper half is mapped
		}
		s.Add(m)
	}
}

// Bounds of what is looked at to find a guest's programs.
const (
	maxProgram  = 256 << 20
	maxPrograms = 512
)

// programs maps the programs and libraries whose code was executed.
func (s *space) programs(p *plan, seen []symbols.Seen) {
	if len(seen) == 0 {
		return
	}
	n := 0
	err := p.target.eachProgram(p.config.Initrd, func(name string, content []byte) error {
		if n++; n > maxPrograms || len(seen) == 0 {
			return fs.SkipAll
		}
		o, err := symbols.New(bytes.NewReader(content), int64(len(content)), name, symbols.Options{})
		if err != nil {
			s.note("%v", err)
			return nil
		}
		bias, ok := programBias(o, seen)
		if !ok {
			return nil
		}
		for _, r := range o.Text() {
			s.Add(symbols.Mapping{Name: name, Start: r.Start + bias, Limit: r.Limit + bias, Bias: bias, Object: o, Offset: r.Offset})
			rest := seen[:0:0]
			for _, c := range seen {
				if c.Addr < r.Start+bias || c.Addr >= r.Limit+bias {
					rest = append(rest, c)
				}
			}
			seen = rest
		}
		return nil
	})
	if err != nil {
		s.note("%v", err)
	}
}

// programBias finds where a program or a library was mapped.
func programBias(o *symbols.Object, seen []symbols.Seen) (bias uint64, ok bool) {
	if o.Fixed() {
		matched, there := symbols.Matches(o, seen, 0)
		return 0, matched > 0 && matched*4 >= there*3
	}
	bias, _, ok = symbols.Bias(o, seen, pageAlign)
	return bias, ok
}

// eachProgram calls f with the ELF files of the target's root file system, or of the initial RAM disk, the app first. f may
// return fs.SkipAll.
func (t *target) eachProgram(initrd string, f func(name string, content []byte) error) error {
	var err error
	switch {
	case t.params != nil:
		err = t.imagePrograms(f)
	case initrd != "":
		err = initrdPrograms(initrd, f)
	}
	if errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

func isProgram(b []byte) bool { return bytes.HasPrefix(b, []byte(elf.ELFMAG)) }

func (t *target) imagePrograms(f func(name string, content []byte) error) error {
	img, err := image.Open(t.name)
	if err != nil {
		return err
	}
	defer img.Close()
	root, err := img.Root()
	if err != nil {
		return err
	}
	one := func(name string) error {
		file, err := root.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		magic := make([]byte, len(elf.ELFMAG))
		if _, err := io.ReadFull(file, magic); err != nil || !isProgram(magic) {
			return nil
		}
		rest, err := io.ReadAll(io.LimitReader(file, maxProgram))
		if err != nil {
			return err
		}
		return f("/"+name, append(magic, rest...))
	}
	app := ""
	if len(t.params.Args) > 0 {
		app = strings.TrimPrefix(path.Clean("/"+t.params.Args[0]), "/")
		if err := one(app); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || name == app {
			return err
		}
		return one(name)
	})
}

// mappings returns the mappings as a recording has them.
func (s *space) mappings() []boottrace.Mapping {
	var all []boottrace.Mapping
	for _, m := range s.Mappings() {
		b := boottrace.Mapping{Name: m.Name, Start: m.Start, Limit: m.Limit, Offset: m.Offset}
		if m.Object != nil {
			b.BuildID = m.Object.BuildID()
		}
		all = append(all, b)
	}
	return all
}

// lookup is a boottrace.Symbolizer.
func (s *space) lookup(addr uint64) (int, []boottrace.Frame) {
	mapping, frames := s.Lookup(addr)
	all := make([]boottrace.Frame, len(frames))
	for i, f := range frames {
		all[i] = boottrace.Frame{Function: f.Function, System: f.System, File: f.File, Line: f.Line, StartLine: f.StartLine}
	}
	return mapping, all
}
