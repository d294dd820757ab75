package bootprof

import (
	"fmt"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
	"github.com/firstlight-boot/firstlight/symbols"
)

// profiles says which profiles to take.
type profiles struct {
	exact  bool // in the counting boots
	memory bool // with it, by the function that touched a page first
	sample bool // in boots of its own
}

// Set reads the value of --profile.
func (p *profiles) Set(s string) error {
	*p = profiles{}
	for word := range strings.SplitSeq(s, ",") {
		switch word {
		case "exact":
			p.exact = true
		case "memory":
			p.memory = true
		case "sample":
			p.sample = true
		default:
			return fmt.Errorf("%q: want exact, sample or memory, or several of them with commas", word)
		}
	}
	p.exact = p.exact || p.memory
	return nil
}

func (p *profiles) Type() string { return "KINDS" }

func (p *profiles) String() string {
	var words []string
	for _, w := range []struct {
		on   bool
		name string
	}{{p.exact, "exact"}, {p.memory, "memory"}, {p.sample, "sample"}} {
		if w.on {
			words = append(words, w.name)
		}
	}
	return strings.Join(words, ",")
}

// Frames of an exact profile that are not functions.
const (
	frameFirmware = "firmware"
	frameLoader   = "[loaded by the VMM]"
	frameDevices  = "[written by devices]"
	frameLater    = "[after ready]"
)

// exactProfile turns the tree of a counting boot into a profile of what came before ready. Its instructions add up to the run's.
func (p *plan) exactProfile(o *outcome) (*boottrace.Profile, []string, error) {
	run, counts := &o.Run, o.counts
	t := counts.Tree
	ready := run.Instructions
	if ready == 0 {
		ready = counts.Total // when it was ready is not known in instructions: all of the boot
	}
	phaseAt := make([]string, len(t.Phases)) // "" after ready
	for i, ph := range t.Phases {
		at := uint64(0)
		if ph.Mark >= 0 {
			at = counts.Marks[ph.Mark].Instructions
		}
		if run.Instructions == 0 {
			phaseAt[i] = run.PhaseAtMark(at)
		} else if at < ready {
			phaseAt[i] = run.PhaseAt(at)
		}
	}
	firmware := func(name string) bool {
		return strings.Contains(name, frameFirmware) && !strings.Contains(name, "kernel")
	}

	// What was executed, to find out what was mapped where.
	var seen []symbols.Seen
	known := make([]bool, len(t.Blocks))
	var began uint64                                // of what comes after the firmware
	moved := p.target.flavour != image.FlavourLinux // into the upper half; what a Linux runs in the lower before that is no program
	for i, ph := range t.Phases {
		if firmware(phaseAt[i]) {
			if i+1 < len(t.Phases) {
				began = counts.Marks[t.Phases[i+1].Mark].Instructions
			}
			continue
		}
		upper := moved
		for _, s := range ph.Spent {
			b := t.Cells[s.Cell].Block
			block := t.Blocks[b]
			upper = upper || block.Addr >= upperHalf
			if s.Cell > 0 && !known[b] && (moved || block.Addr >= upperHalf) {
				known[b] = true
				seen = append(seen, symbols.Seen{Addr: block.Addr, Code: block.Code})
			}
		}
		moved = upper
	}
	space, err := p.openSpace(seen)
	if err != nil {
		return nil, nil, err
	}
	defer space.close()

	b := boottrace.NewBuilder(boottrace.Exact, space.mappings(), space.lookup)
	stacks := make([]int, len(t.Nodes)) // of the profile, by node; 0 until it is needed
	var stack func(node uint32) int
	var under func(node uint32, addr uint64) int
	stack = func(node uint32) int {
		n := t.Nodes[node]
		if node == 0 || n.First < began {
			return 0 // the root, or a call that the firmware made and did not return from
		}
		if stacks[node] == 0 {
			stacks[node] = b.Child(under(n.Parent, n.Site), n.Site, n.First)
		}
		return stacks[node]
	}
	// under is the node for code at addr in a context. What the part that unpacks a kernel jumps to is not called by it.
	under = func(node uint32, addr uint64) int {
		if n := t.Nodes[node]; addr >= upperHalf && n.Site < upperHalf && !n.Trap {
			return 0
		}
		return stack(node)
	}
	var pages, later uint64
	for i, ph := range t.Phases {
		if phaseAt[i] == "" {
			for _, s := range ph.Spent {
				later += uint64(s.Pages)
			}
			continue
		}
		phase := b.Phase(phaseAt[i])
		for _, s := range ph.Spent {
			pages += uint64(s.Pages)
			cell := t.Cells[s.Cell]
			sample := boottrace.Sample{Phase: phase, CPU: cell.CPU, Instructions: s.Instructions, TouchedBytes: uint64(s.Pages) * pageSize}
			switch {
			case s.Cell == 0:
			case firmware(phaseAt[i]):
				sample.Stack = b.Named(0, frameFirmware, 0)
			default:
				addr := t.Blocks[cell.Block].Addr
				sample.Stack = b.Child(under(cell.Node, addr), addr, t.Nodes[cell.Node].First)
				sample.User = addr < upperHalf && strings.Contains(phaseAt[i], "app")
			}
			b.Add(sample)
		}
	}
	if p.profile.memory {
		add := func(name string, pages uint64) {
			if pages > 0 {
				b.Add(boottrace.Sample{Stack: b.Named(0, name, 0), Phase: -1, TouchedBytes: pages * pageSize})
			}
		}
		add(frameLoader, t.LoadedPages)
		add(frameLater, later)
		if all, known := run.TouchedBytes/pageSize, t.LoadedPages+pages+later; all > known {
			add(frameDevices, all-known)
		}
		o.setTouchers(func(f plugin.First) string {
			switch {
			case f.Cell == 0:
				return frameLoader
			case f.Instructions < began:
				return frameFirmware
			}
			return space.name(t.Blocks[t.Cells[f.Cell].Block].Addr)
		})
	}
	if t.Lost > 0 {
		space.note("the call graph is too deep or too large: %d calls are counted with their callers", t.Lost)
	}
	return b.Profile(), space.notes, nil
}
