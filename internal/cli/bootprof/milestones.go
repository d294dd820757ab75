package bootprof

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/spelling"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
	"github.com/firstlight-boot/firstlight/symbols"
)

// milestone is an instant of a boot that is seen by the execution of an instruction, in kernels that announce nothing.
type milestone struct {
	point plugin.Point
	mark  boottrace.Mark // ID and Name
	// each is for points that are executed more than once: it names the mark that an execution is, or returns "" if it is none.
	// The other points have only their first execution looked at.
	each func(*seen) string
}

// seen is what has been executed so far in a boot.
type seen struct {
	initcalls int  // called
	exec      bool // the kernel is about to start the app
	app       bool // the app runs
	output    bool // the app has written to its terminal
}

// resetVector is where an x86 executes its first instruction.
const resetVector = 0xfffffff0

// milestones returns the milestones of a target whose kernel does not write marks, booted with an initial RAM disk and a command line.
func (t *target) milestones(initrd, line string) ([]milestone, error) {
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
		if err != nil {
			return nil, err
		}
		return append(all, t.linuxMilestones(kernel, initrd, line)...), nil
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

// maxCompletions bounds the symbols that the shell is offered.
const maxCompletions = 1000

// completeMark completes NAME=SYMBOL by the symbols of the kernel.
func (o *qemuOptions) completeMark(_ *cobra.Command, args []string, s string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	name, prefix, ok := strings.Cut(s, "=")
	kernel := o.kernel
	if kernel == "" && len(args) > 0 {
		kernel = args[0]
	}
	if !ok || kernel == "" {
		return nil, none
	}
	t := &target{kernel: kernel}
	object, err := t.symbols()
	if err != nil || object == nil {
		return nil, none
	}
	defer object.Close()
	var all []cobra.Completion
	for _, symbol := range object.Names(prefix) {
		if all = append(all, name+"="+symbol); len(all) == maxCompletions {
			break
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

// nearest returns the few names that are most like one.
func nearest(name string, names []string) []string {
	type scored struct {
		name string
		d    int
	}
	var best []scored
	for _, n := range names {
		if d := spelling.Distance(name, n); d <= max(2, len(name)/3) {
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

// spotter tells which executions of milestones are marks.
type spotter struct {
	milestones []milestone
	executed   []bool // of each milestone
	seen       seen
}

func newSpotter(milestones []milestone) *spotter {
	return &spotter{milestones: milestones, executed: make([]bool, len(milestones))}
}

// take takes the next execution, and returns its mark if it is one.
func (s *spotter) take(e plugin.Mark) (m boottrace.Mark, ok bool) {
	if e.Point >= len(s.milestones) {
		return m, false
	}
	ms := s.milestones[e.Point]
	m = ms.mark
	m.HostNanos, m.Instructions = e.Nanos, e.Instructions
	if ms.each != nil {
		name := ms.each(&s.seen)
		if m.ID == abi.MarkNamed {
			m.Name = name
		}
		return m, name != ""
	}
	ok = !s.executed[e.Point]
	s.executed[e.Point] = true
	return m, ok
}

// milestoneMarks returns the marks of the milestones that were executed, in that order.
func (p *plan) milestoneMarks(executed []plugin.Mark) []boottrace.Mark {
	var marks []boottrace.Mark
	s := newSpotter(p.milestones)
	for _, e := range executed {
		if m, ok := s.take(e); ok {
			marks = append(marks, m)
		}
	}
	return marks
}

// setMilestones settles what is watched for, and whether ready can be seen at all.
func (o *qemuOptions) setMilestones(p *plan, tell *teller) (err error) {
	if p.milestones, err = p.target.milestones(p.config.Initrd, p.config.Append); err != nil {
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
			if m.port == abi.PortMark && p.target.flavour == image.FlavourNative {
				return usagef("--mark %s: port %#x is the one that this kernel writes its own marks to", s, m.port)
			}
			if m.port != abi.PortMark && !slices.Contains(p.config.Ports, m.port) {
				p.config.Ports = append(p.config.Ports, m.port)
			}
			p.portMarks = append(p.portMarks, m)
			continue
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
