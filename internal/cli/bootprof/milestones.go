package bootprof

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
	"github.com/firstlight-boot/firstlight/symbols"
)

// milestone is an instant of a boot that is seen by the execution of an instruction, in kernels that announce nothing.
type milestone struct {
	point plugin.Point
	mark  boottrace.Mark // ID and Name
	// each is for points that are executed more than once: it names the n-th execution, from 0. The other points have only
	// their first execution looked at.
	each func(n int) string
}

// bzImageEntry is where a bzImage's protected-mode code is loaded and entered (Documentation/arch/x86/boot.rst, code32_start).
const bzImageEntry = 0x100000

// resetVector is where an x86 executes its first instruction.
const resetVector = 0xfffffff0

// milestones returns the milestones of a target whose kernel does not write marks.
func (t *target) milestones(initrd string) ([]milestone, error) {
	if t.flavour == image.FlavourNative {
		return nil, nil
	}
	all := []milestone{{point: plugin.Point{Addr: resetVector}, mark: boottrace.Mark{ID: boottrace.MarkReset}}}
	entry := boottrace.Mark{ID: abi.MarkEntry}
	if t.entry != 0 {
		all = append(all, milestone{point: plugin.Point{Addr: t.entry, Code: t.entryCode, Phase: plugin.PhaseEach}, mark: entry})
	}
	switch t.flavour {
	case image.FlavourLinux:
		kernel, err := t.symbols()
		if err != nil || kernel == nil {
			return all, err
		}
		for _, fn := range []struct{ symbol, name string }{
			{"startup_64", "unpacked"}, {"start_kernel", "start_kernel"}, {"rest_init", "rest_init"}, {"kernel_init", "kernel_init"},
			{"run_init_process", "run_init_process"},
		} {
			if p, ok := linuxPoint(kernel, fn.symbol); ok {
				all = append(all, milestone{point: p, mark: boottrace.Mark{ID: abi.MarkNamed, Name: fn.name}})
			}
		}
		if p, ok := linuxPoint(kernel, "do_one_initcall"); ok {
			names := initcalls(kernel)
			all = append(all, milestone{point: p, mark: boottrace.Mark{ID: abi.MarkNamed}, each: func(n int) string {
				if n < len(names) {
					return boottrace.InitcallPrefix + names[n]
				}
				return boottrace.InitcallPrefix + strconv.Itoa(n)
			}})
		}
		if initrd != "" {
			if p, ok := initEntry(initrd); ok {
				all = append(all, milestone{point: p, mark: boottrace.Mark{ID: abi.MarkApp}})
			}
		}
	case flavourOSv:
		kernel, err := t.symbols()
		if err != nil || kernel == nil {
			return all, err
		}
		for _, fn := range []struct{ symbol, name string }{
			{"premain", "premain"}, {"main", "main"}, {"main_cont", "main_cont"}, {"do_main_thread", "main thread"},
		} {
			if addr, _, ok := kernel.Find(fn.symbol); ok {
				all = append(all, milestone{point: plugin.Point{Addr: addr, Phase: plugin.PhaseFirst}, mark: boottrace.Mark{ID: abi.MarkNamed, Name: fn.name}})
			}
		}
	}
	return all, nil
}

// symbols returns the kernel's symbols, which are read once; nil if it has none that we can read.
func (t *target) symbols() (*symbols.Object, error) {
	if t.object != nil || t.noSymbols != nil {
		return t.object, nil
	}
	o, err := symbols.Open(t.kernel, symbols.Options{})
	if errors.Is(err, symbols.ErrUnsupported) || errors.Is(err, symbols.ErrFormat) || errors.Is(err, symbols.ErrTooLarge) {
		t.noSymbols = err
		return nil, nil
	}
	t.object = o
	return o, err
}

// linuxPoint returns the point of a function of a Linux kernel, wherever that was moved to. Functions begin with endbr64 and a call
// that ftrace replaces, so the point is what comes after those.
func linuxPoint(o *symbols.Object, name string) (plugin.Point, bool) {
	addr, size, ok := o.Find(name)
	if !ok {
		return plugin.Point{}, false
	}
	code := make([]byte, min(size, 9+plugin.MaxCode))
	code = code[:o.Code(addr, code)]
	skip := 0
	if bytes.HasPrefix(code, []byte{0xf3, 0x0f, 0x1e, 0xfa}) {
		skip = 4
	}
	if len(code) >= skip+5 && (code[skip] == 0xe8 || bytes.HasPrefix(code[skip:], []byte{0x0f, 0x1f, 0x44, 0x00, 0x00})) {
		skip += 5
	}
	code = code[skip:]
	return plugin.Point{
		Addr: addr + uint64(skip), Mask: kernelAlign - 1, Code: code[:min(len(code), plugin.MaxCode)], Phase: plugin.PhaseFirst,
	}, len(code) > 0
}

// maxInitcalls bounds the table of initcalls; a Linux of everything has some 2,000.
const maxInitcalls = 1 << 14

// initcalls returns the names of a Linux kernel's initcalls in the order in which it calls them: that of its table, whose entries are
// the functions' distances from the entries themselves (include/linux/init.h).
func initcalls(o *symbols.Object) []string {
	start, _, ok1 := o.Find("__initcall_start")
	end, _, ok2 := o.Find("__initcall_end")
	if !ok1 || !ok2 || end < start || (end-start)/4 > maxInitcalls {
		return nil
	}
	table := make([]byte, end-start)
	if o.Code(start, table) < len(table) {
		return nil
	}
	var names []string
	for at := 0; at+4 <= len(table); at += 4 {
		addr := start + uint64(at) + uint64(int64(int32(binary.LittleEndian.Uint32(table[at:]))))
		name := strconv.FormatUint(addr, 16)
		if frames := o.Lookup(addr); len(frames) > 0 {
			name = frames[len(frames)-1].Function
		}
		names = append(names, name)
	}
	return names
}

// initEntry returns the point of the first instruction of an initial RAM disk's init. Where that is mapped is not known if it is
// position-independent; which offset in its page, and what its code is, are.
func initEntry(initrd string) (p plugin.Point, ok bool) {
	err := initrdPrograms(initrd, func(name string, content []byte) error {
		if name != "/init" {
			return nil
		}
		p, ok = entryPoint(content)
		return nil
	})
	return p, ok && err == nil
}

func entryPoint(program []byte) (plugin.Point, bool) {
	e, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return plugin.Point{}, false
	}
	for _, s := range e.Progs {
		if s.Type != elf.PT_LOAD || e.Entry < s.Vaddr || e.Entry >= s.Vaddr+s.Filesz {
			continue
		}
		code := make([]byte, min(plugin.MaxCode, s.Vaddr+s.Filesz-e.Entry))
		if _, err := s.ReadAt(code, int64(e.Entry-s.Vaddr)); err != nil {
			return plugin.Point{}, false
		}
		p := plugin.Point{Addr: e.Entry, Mask: pageAlign - 1, Code: code, Phase: plugin.PhaseFirst}
		if e.Type == elf.ET_EXEC {
			p.Mask = 0
		}
		return p, true
	}
	return plugin.Point{}, false
}

// customMark is a --mark.
type customMark struct {
	name   string
	symbol string // or
	addr   uint64 // or
	port   uint16
	value  byte
	onPort bool
}

// parseMark reads NAME=SYMBOL, NAME=ADDRESS or NAME=port:N=V.
func parseMark(s string) (m customMark, err error) {
	name, where, ok := strings.Cut(s, "=")
	if !ok || name == "" || where == "" {
		return m, fmt.Errorf("%q: want NAME=SYMBOL, NAME=ADDRESS or NAME=port:N=VALUE", s)
	}
	if len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return m, fmt.Errorf("%q: the name is empty, too long, or has spaces in it", s)
	}
	m.name = name
	if rest, ok := strings.CutPrefix(where, "port:"); ok {
		port, value, ok := strings.Cut(rest, "=")
		p, err1 := strconv.ParseUint(port, 0, 16)
		v, err2 := strconv.ParseUint(value, 0, 8)
		if !ok || err1 != nil || err2 != nil {
			return m, fmt.Errorf("%q: want port:N=VALUE, an I/O port and the byte that is written to it, as port:0xf4=7", s)
		}
		m.port, m.value, m.onPort = uint16(p), byte(v), true
		return m, nil
	}
	if where[0] >= '0' && where[0] <= '9' {
		if m.addr, err = strconv.ParseUint(where, 0, 64); err != nil {
			return m, fmt.Errorf("%q: %q is no address", s, where)
		}
		return m, nil
	}
	m.symbol = where
	return m, nil
}

// milestone returns what is to be watched for a --mark that is a symbol or an address.
func (t *target) milestone(m customMark) (milestone, error) {
	ms := milestone{point: plugin.Point{Addr: m.addr, Phase: plugin.PhaseFirst}, mark: boottrace.Mark{ID: abi.MarkNamed, Name: m.name}}
	if m.symbol == "" {
		return ms, nil
	}
	o, err := t.symbols()
	if err != nil {
		return ms, err
	}
	if o == nil {
		return ms, usagef("--mark %s=%s: the kernel's symbols cannot be read (%v); give an address", m.name, m.symbol, t.noSymbols)
	}
	addr, _, ok := o.Find(m.symbol)
	if !ok {
		near := nearest(m.symbol, o.Names(m.symbol[:1]))
		if len(near) > 0 {
			return ms, usagef("--mark %s=%s: the kernel has no symbol of that name; near it are %s", m.name, m.symbol, strings.Join(near, ", "))
		}
		return ms, usagef("--mark %s=%s: the kernel has no symbol of that name", m.name, m.symbol)
	}
	ms.point.Addr = addr
	if t.flavour == image.FlavourLinux {
		if ms.point, ok = linuxPoint(o, m.symbol); !ok {
			return ms, usagef("--mark %s=%s: the symbol is no function", m.name, m.symbol)
		}
	}
	return ms, nil
}

// nearest returns the few names that are most like one.
func nearest(name string, names []string) []string {
	type scored struct {
		name string
		d    int
	}
	var best []scored
	for _, n := range names {
		if d := distance(name, n); d <= max(2, len(name)/3) {
			best = append(best, scored{n, d})
		}
	}
	slices.SortStableFunc(best, func(a, b scored) int { return a.d - b.d })
	var out []string
	for _, b := range best[:min(3, len(best))] {
		out = append(out, b.name)
	}
	return out
}

// distance is the Levenshtein distance of two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}

// milestoneMarks returns the marks of the milestones that were executed, in that order.
func (p *plan) milestoneMarks(executed []plugin.Mark) []boottrace.Mark {
	var marks []boottrace.Mark
	times := make([]int, len(p.milestones))
	for _, e := range executed {
		if e.Point >= len(p.milestones) {
			continue
		}
		m := p.milestones[e.Point]
		mark := m.mark
		mark.HostNanos, mark.Instructions = e.Nanos, e.Instructions
		n := times[e.Point]
		times[e.Point]++
		switch {
		case m.each != nil:
			mark.Name = m.each(n)
		case n > 0:
			continue
		}
		marks = append(marks, mark)
	}
	return marks
}

// setMilestones settles what is watched for, and whether ready can be seen at all.
func (o *qemuOptions) setMilestones(p *plan, tell *teller) (err error) {
	if p.milestones, err = p.target.milestones(o.initrd); err != nil {
		return err
	}
	if p.target.noSymbols != nil {
		tell.note("the kernel's milestones are not known: %v", p.target.noSymbols)
	}
	var names []string
	for _, s := range o.marks {
		m, err := parseMark(s)
		if err != nil {
			return usagef("--mark: %w", err)
		}
		if m.onPort {
			return usagef("--mark %s: ports cannot be watched yet", s)
		}
		ms, err := p.target.milestone(m)
		if err != nil {
			return err
		}
		names = append(names, m.name)
		p.milestones = append(p.milestones, ms)
	}
	if p.config.Accel == qemu.KVM {
		if len(names) > 0 {
			tell.note("under KVM no instruction can be watched: %s is seen in counting boots only; --accel tcg sees it always", strings.Join(names, ", "))
		}
	}
	byMilestone := slices.ContainsFunc(p.milestones, func(m milestone) bool { return m.mark.IsReady(p.until) })
	switch {
	case byMilestone && p.config.Accel == qemu.KVM:
		return errorf(exitHost, "--until %s: under KVM that instruction cannot be watched; use --accel tcg", p.until)
	case p.until == boottrace.UntilEntry && p.target.flavour != image.FlavourNative && !byMilestone:
		return usagef("--until entry: it is not known where this kernel enters the app; use --until output, exit or mark:NAME with --mark")
	}
	return nil
}
