package profile

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// Metrics are the names of what the stacks of a boot may be weighed by.
func Metrics() []string {
	var names []string
	for _, t := range valueTypes[:pss] {
		names = append(names, t.name)
	}
	return names
}

// WriteFolded writes the stacks of BootProfile as Brendan Gregg's folded stacks: a line for each, with its frames from the root on
// separated by semicolons, and after a space its value, which is not 0. Stacks of the same names are one. ok is false when
// the metric was not measured.
func WriteFolded(w io.Writer, r *boottrace.Recording, metric string) (ok bool, err error) {
	p := BootProfile(r)
	if p == nil {
		return false, nil
	}
	at := slices.IndexFunc(p.types, func(t valueType) bool { return t.name == metric })
	if at < 0 {
		return false, nil
	}
	f := &folded{types: len(p.types), at: at, nodes: make([]foldedNode, 1), index: make(map[[2]int32]int32), frames: make(map[string]int32)}
	p.write(p, f)
	return f.any, f.writeTo(w)
}

// folded merges stacks by the names of their frames.
type folded struct {
	types, at int // how many values samples have, and which one counts
	any       bool
	nodes     []foldedNode // [0] is the root
	index     map[[2]int32]int32
	frames    map[string]int32
	names     []string
}

type foldedNode struct {
	parent, frame int32
	self          int64
}

func (f *folded) values() values { return make(values, f.types) }

// frame returns the number of a name, made fit for the format.
func (f *folded) frame(name string) int32 {
	i, ok := f.frames[name]
	if !ok {
		i = int32(len(f.names))
		f.frames[name] = i
		f.names = append(f.names, strings.ReplaceAll(clean(name), ";", ":"))
	}
	return i
}

// node returns the node of a frame below another.
func (f *folded) node(parent, frame int32) int32 {
	key := [2]int32{parent, frame}
	n, ok := f.index[key]
	if !ok {
		n = int32(len(f.nodes))
		f.index[key] = n
		f.nodes = append(f.nodes, foldedNode{parent: parent, frame: frame})
	}
	return n
}

func (f *folded) add(v values, _ labels, stack ...string) {
	if v[f.at] == 0 {
		return
	}
	var n int32
	for _, name := range stack {
		if name != "" {
			n = f.node(n, f.frame(name))
		}
	}
	f.nodes[n].self += v[f.at]
	f.any = true
}

func (f *folded) stacks(p *boottrace.Profile, set func(*boottrace.Sample, values)) {
	c := newCalls(p)
	frames := make([]int32, len(c.names))
	for i, name := range c.names {
		frames[i] = f.frame(name)
	}
	unknown := f.frame("[unknown]")
	nodes := make([]int32, len(p.Stacks)) // of the stacks, whose callers come before them
	for i := 1; i < len(p.Stacks); i++ {
		n := nodes[p.Stacks[i].Parent]
		for _, frame := range slices.Backward(c.frames[p.Stacks[i].Location]) {
			n = f.node(n, frames[frame])
		}
		nodes[i] = n
	}
	v := f.values()
	for i := range p.Samples {
		clear(v)
		set(&p.Samples[i], v)
		if v[f.at] == 0 {
			continue
		}
		n := nodes[p.Samples[i].Stack]
		if n == 0 {
			n = f.node(0, unknown)
		}
		f.nodes[n].self += v[f.at]
		f.any = true
	}
}

func (f *folded) writeTo(w io.Writer) error {
	out := bufio.NewWriter(w)
	var path []int32
	for i, n := range f.nodes {
		if n.self == 0 || i == 0 {
			continue
		}
		path = path[:0]
		for at := int32(i); at != 0 && len(path) < maxDepth; at = f.nodes[at].parent {
			path = append(path, f.nodes[at].frame)
		}
		for j, frame := range slices.Backward(path) {
			out.WriteString(f.names[frame])
			if j > 0 {
				out.WriteByte(';')
			}
		}
		fmt.Fprintf(out, " %d\n", n.self)
	}
	return out.Flush()
}
