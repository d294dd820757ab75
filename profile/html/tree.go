package html

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// tree is a profile of calls, those of the same functions by the same callers merged. Its root's children are the phases.
type tree struct {
	Kind    boottrace.ProfileKind `json:"kind"`
	Metrics []metric              `json:"metrics"`
	Names   []string              `json:"names"` // of the frames
	Files   []string              `json:"files"` // of the frames: source file and line, "" if unknown
	Tones   []int                 `json:"tones"` // of the root's children
	// Nodes are the tree's nodes but the root, callers before callees, in the order in which they were first called. Each is a
	// sequence of unsigned LEB128 numbers: how many levels to go up from the node before it to find the caller's; the frame; and
	// for each metric what was used there, the callees' use not included.
	Nodes []byte `json:"nodes"`
	Count int    `json:"count"` // of the nodes
}

// metric is what the frames are weighed by.
type metric struct {
	Name  string `json:"name"`
	Unit  string `json:"unit"`
	value func(*boottrace.Sample) uint64
}

// metrics are in the order in which they are offered.
var metrics = []metric{
	{"instructions", "instructions", func(s *boottrace.Sample) uint64 { return s.Instructions }},
	{"time", "ns", func(s *boottrace.Sample) uint64 { return uint64(s.Nanos) }},
	{"samples", "samples", func(s *boottrace.Sample) uint64 { return s.Count }},
	{"touched", "bytes", func(s *boottrace.Sample) uint64 { return s.TouchedBytes }},
}

func (t *tree) has(name string) bool {
	return t != nil && slices.ContainsFunc(t.Metrics, func(m metric) bool { return m.Name == name })
}

// Bounds of what is drawn as it is: more phases than maxPhases are one, and calls deeper than maxDepth are their callers'.
const (
	maxPhases = 64
	maxDepth  = 1 << 10
)

// builder merges the stacks of a profile.
type builder struct {
	p      *boottrace.Profile
	t      *tree
	frames [][]int32 // of the locations, the innermost first
	nodes  []node    // [0] is the root
	index  map[[2]int32]int32
	self   []uint64 // of the nodes, len(t.Metrics) each
}

type node struct {
	parent, frame, depth int32
	first                uint64
}

// newTree returns the tree of a profile, or nil if it has nothing in it.
func newTree(p *boottrace.Profile) *tree {
	if p == nil {
		return nil
	}
	t := &tree{Kind: p.Kind}
	for _, m := range metrics {
		if m.Name == "samples" && t.has("time") { // the same in another unit
			continue
		}
		if slices.ContainsFunc(p.Samples, func(s boottrace.Sample) bool { return m.value(&s) > 0 }) {
			t.Metrics = append(t.Metrics, m)
		}
	}
	if len(t.Metrics) == 0 {
		return nil
	}
	b := &builder{p: p, t: t, frames: make([][]int32, len(p.Locations)), nodes: make([]node, 1, len(p.Stacks)), index: make(map[[2]int32]int32, len(p.Stacks))}
	b.self = make([]uint64, len(t.Metrics))
	b.name()
	b.merge()
	b.emit()
	t.Count = len(b.nodes) - 1
	return t
}

// name numbers the frames: functions by name, places without a symbol by their mapping.
func (b *builder) name() {
	p, index := b.p, make(map[string]int32)
	frame := func(name, file string, line int) int32 {
		i, ok := index[name]
		if !ok {
			i = int32(len(b.t.Names))
			index[name] = i
			b.t.Names = append(b.t.Names, name)
			b.t.Files = append(b.t.Files, place(file, line))
		}
		return i
	}
	functions := make([]int32, len(p.Functions))
	for i, f := range p.Functions {
		functions[i] = frame(cmp.Or(f.Name, f.System, "[no name]"), f.File, f.Line)
	}
	for i, l := range p.Locations {
		if len(l.Lines) == 0 {
			name := "unknown"
			if l.Mapping >= 0 {
				name = cmp.Or(p.Mappings[l.Mapping].Name, name)
			}
			b.frames[i] = []int32{frame("["+name+"]", "", 0)}
		}
		for _, line := range l.Lines {
			b.frames[i] = append(b.frames[i], functions[line.Function])
		}
	}
}

// child returns the node of a frame that another calls. first is how many instructions were executed before.
func (b *builder) child(parent, frame int32, first uint64) int32 {
	if b.nodes[parent].depth >= maxDepth {
		return parent
	}
	key := [2]int32{parent, frame}
	n, ok := b.index[key]
	if !ok {
		n = int32(len(b.nodes))
		b.index[key] = n
		b.nodes = append(b.nodes, node{parent, frame, b.nodes[parent].depth + 1, first})
		b.self = append(b.self, make([]uint64, len(b.t.Metrics))...)
	}
	b.nodes[n].first = min(b.nodes[n].first, first)
	return n
}

// merge makes the nodes, phase by phase.
func (b *builder) merge() {
	p := b.p
	phases := p.Phases
	if len(phases) > maxPhases {
		phases = nil
	}
	byPhase := make([][]int32, len(phases)+1) // samples; the last are those of no phase
	for i, s := range p.Samples {
		at := s.Phase
		if at < 0 || at >= len(phases) {
			at = len(phases)
		}
		byPhase[at] = append(byPhase[at], int32(i))
	}
	of := make([]int32, len(p.Stacks)) // the stacks' nodes in this phase; 0 is not known yet
	var path []int
	for at, samples := range byPhase {
		if len(samples) == 0 {
			continue
		}
		name := "boot"
		switch {
		case at < len(phases):
			name = cmp.Or(phases[at], "[no name]")
		case len(phases) > 0:
			name = "[in no phase]"
		}
		// A phase is no function, and so has a frame of its own.
		b.t.Names, b.t.Files, b.t.Tones = append(b.t.Names, name), append(b.t.Files, ""), append(b.t.Tones, tone(name))
		clear(of)
		top := b.child(0, int32(len(b.t.Names)-1), 0)
		for _, i := range samples {
			s := &p.Samples[i]
			path = path[:0]
			for stack := s.Stack; stack != 0 && of[stack] == 0; stack = p.Stacks[stack].Parent {
				path = append(path, stack)
			}
			n := top
			if len(path) == 0 && s.Stack != 0 {
				n = of[s.Stack]
			} else if len(path) > 0 {
				if caller := p.Stacks[path[len(path)-1]].Parent; caller != 0 {
					n = of[caller]
				}
			}
			for _, stack := range slices.Backward(path) {
				for _, frame := range slices.Backward(b.frames[p.Stacks[stack].Location]) {
					n = b.child(n, frame, p.Stacks[stack].First)
				}
				of[stack] = n
			}
			for m := range b.t.Metrics {
				self := &b.self[int(n)*len(b.t.Metrics)+m]
				*self += min(b.t.Metrics[m].value(s), math.MaxUint64-*self)
			}
		}
	}
}

// emit writes the nodes in order.
func (b *builder) emit() {
	order := make([]int32, len(b.nodes)-1) // by caller, then by the first call
	for i := range order {
		order[i] = int32(i + 1)
	}
	slices.SortFunc(order, func(x, y int32) int {
		m, n := &b.nodes[x], &b.nodes[y]
		return cmp.Or(cmp.Compare(m.parent, n.parent), cmp.Compare(m.first, n.first), cmp.Compare(x, y))
	})
	start := make([]int32, len(b.nodes)+1) // where in order a node's callees begin
	for _, n := range order {
		start[b.nodes[n].parent+1]++
	}
	for i := range b.nodes {
		start[i+1] += start[i]
	}
	next := slices.Clone(start[:len(b.nodes)])
	last := int32(0) // the depth of the node before
	for at := int32(0); ; {
		if next[at] == start[at+1] {
			if at == 0 {
				break
			}
			at = b.nodes[at].parent
			continue
		}
		n := order[next[at]]
		next[at]++
		at = n
		out := &b.t.Nodes
		*out = binary.AppendUvarint(*out, uint64(last+1-b.nodes[n].depth))
		*out = binary.AppendUvarint(*out, uint64(b.nodes[n].frame))
		for _, v := range b.self[int(n)*len(b.t.Metrics):][:len(b.t.Metrics)] {
			*out = binary.AppendUvarint(*out, v)
		}
		last = b.nodes[n].depth
	}
}
