package bootprof

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
)

// maxTouched bounds the instants at which it is told how much memory was touched.
const maxTouched = 256

// memoryWatch looks at how much of a guest's memory is touched while it runs: when it says something, and no more often.
type memoryWatch struct {
	vm    *qemu.VM
	seen  []boottrace.Touched
	ready uint64 // bytes
}

// watch makes the watcher look at a VM's memory.
func (w *watcher) watch(vm *qemu.VM) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.memory.vm = vm
}

func (m *memoryWatch) look(at time.Duration, ready bool) {
	if m.vm == nil || len(m.seen) == maxTouched && !ready {
		return
	}
	n, err := m.vm.AllocatedBytes()
	if err != nil {
		return
	}
	if ready {
		m.ready = uint64(n)
	}
	if len(m.seen) < maxTouched && (len(m.seen) == 0 || m.seen[len(m.seen)-1].Bytes != uint64(n)) {
		m.seen = append(m.seen, boottrace.Touched{Nanos: max(at.Nanoseconds(), 1), Bytes: uint64(n)})
	}
}

// setOverTime sets what is known of when the memory was touched: to the instruction where first touches were logged, else by the times
// of what the guest said.
func (o *outcome) setOverTime(w *watcher) {
	if o.Memory == nil {
		return
	}
	m := o.Memory
	m.RSSBytes, m.Balloon = o.rssBytes, o.balloon
	switch {
	case o.counts != nil && o.counts.Tree != nil && len(o.counts.Tree.Firsts) > 0:
		o.setFirsts(o.memory)
	case o.Kind == boottrace.Timed:
		m.OverTime, m.ReadyBytes = w.memory.seen, w.memory.ready
	}
}

// setFirsts sets touched memory by guest instructions, and by owner what was touched before the guest was ready.
func (o *outcome) setFirsts(s *survey) {
	firsts := o.counts.Tree.Firsts
	m, total, ready := o.Memory, o.counts.Total, o.Instructions
	// before returns how many pages were touched before an instruction.
	before := func(at uint64) int {
		return sort.Search(len(firsts), func(i int) bool { return firsts[i].Instructions >= at && firsts[i].Instructions > 0 })
	}
	instants := []uint64{0, total}
	for _, mark := range o.Marks {
		if !strings.HasPrefix(mark.Name, boottrace.InitcallPrefix) && len(instants) < maxTouched/2 {
			instants = append(instants, mark.Instructions)
		}
	}
	if ready > 0 {
		instants = append(instants, ready)
	}
	told := len(instants)
	steps := uint64(maxTouched - len(instants) + 1)
	for i := uint64(1); i < steps; i++ {
		instants = append(instants, total/steps*i+total%steps*i/steps)
	}
	kept := slices.Clone(instants[:told])
	slices.Sort(instants)
	for _, at := range slices.Compact(instants) {
		n := uint64(before(at)) * pageSize
		if last := len(m.OverTime) - 1; last < 0 || m.OverTime[last].Bytes != n || slices.Contains(kept, at) {
			m.OverTime = append(m.OverTime, boottrace.Touched{Instructions: at, Bytes: n})
		}
	}
	if s == nil {
		return
	}
	// by sums up the first n first touches by owner. They are asked for in order.
	at := &survey{Memory: s.Memory}
	by := func(n int) []boottrace.Region {
		for _, f := range firsts[len(at.owners):n] {
			o := ownOther
			if i := s.From(uint64(f.Page) * pageSize); i < len(s.Pages) && s.Pages[i].Addr == uint64(f.Page)*pageSize {
				o = s.owners[i]
			}
			at.owners = append(at.owners, o)
		}
		return at.regions(0)
	}
	for i, t := range m.OverTime {
		n := before(t.Instructions)
		all := by(n)
		if t.Instructions == ready && ready > 0 {
			m.ReadyBytes, m.Ready = uint64(n)*pageSize, all
		}
		for j := range o.Regions {
			r := &o.Regions[j]
			r.OverTime = append(r.OverTime, 0)
			if k := slices.IndexFunc(all, func(a boottrace.Region) bool { return a.Name == r.Name }); k >= 0 {
				r.OverTime[i] = all[k].TouchedBytes
			}
		}
	}
}

// maxTouchers bounds the functions that are told of each owner.
const maxTouchers = 5

// setTouchers sets which functions touched most of each owner's pages first.
func (o *outcome) setTouchers(name func(plugin.First) string) {
	if o.memory == nil {
		return
	}
	firsts := make(map[uint64]plugin.First)
	for _, f := range o.counts.Tree.Firsts {
		firsts[uint64(f.Page)*pageSize] = f
	}
	bytes := make(map[string]map[string]uint64)
	for i, page := range o.memory.Pages {
		who := frameDevices
		if f, ok := firsts[page.Addr]; ok {
			who = name(f)
		}
		of := ownerNames[o.memory.owners[i]]
		if bytes[of] == nil {
			bytes[of] = make(map[string]uint64)
		}
		bytes[of][who] += pageSize
	}
	for i := range o.Regions {
		by := bytes[o.Regions[i].Name]
		names := slices.SortedFunc(maps.Keys(by), func(a, b string) int { return cmp.Or(cmp.Compare(by[b], by[a]), cmp.Compare(a, b)) })
		for _, n := range names[:min(len(names), maxTouchers)] {
			o.Regions[i].First = append(o.Regions[i].First, boottrace.Toucher{Function: n, Bytes: by[n]})
		}
	}
}

// name is a function's at an address, or what is known of it.
func (s *space) name(addr uint64) string {
	mapping, frames := s.Lookup(addr)
	switch {
	case len(frames) > 0:
		return frames[0].Function
	case mapping >= 0:
		return "[" + s.Mappings()[mapping].Name + "]"
	}
	return "[unknown]"
}
