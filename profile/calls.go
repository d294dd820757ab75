package profile

import (
	"cmp"
	"slices"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// calls is a boottrace.Profile made ready to be walked from callers to callees. Frames are functions by name: those of the
// same name are one, as in other profilers.
type calls struct {
	p      *boottrace.Profile
	names  []string  // of the frames
	known  []bool    // whether the frame is a function, and not a place without a symbol
	frames [][]int32 // of the locations, the innermost first; at least one each

	child, sibling []int32 // of the stacks: the first callee, the caller's next callee; 0 if there is none
	start          []int32 // of the stacks, and one more: where in order its samples begin
	order          []int32 // the samples by stack
}

func newCalls(p *boottrace.Profile) *calls {
	c := &calls{
		p: p, frames: make([][]int32, len(p.Locations)), child: make([]int32, len(p.Stacks)), sibling: make([]int32, len(p.Stacks)),
		start: make([]int32, len(p.Stacks)+1), order: make([]int32, len(p.Samples)),
	}
	index := make(map[string]int32)
	frame := func(name string, known bool) int32 {
		i, ok := index[name]
		if !ok {
			i = int32(len(c.names))
			index[name] = i
			c.names = append(c.names, name)
			c.known = append(c.known, known)
		}
		return i
	}
	functions := make([]int32, len(p.Functions))
	for i := range p.Functions {
		functions[i] = frame(functionName(&p.Functions[i]), true)
	}
	for i := range p.Locations {
		l := &p.Locations[i]
		if len(l.Lines) == 0 {
			c.frames[i] = []int32{frame(placeName(p, l), false)}
			continue
		}
		c.frames[i] = make([]int32, len(l.Lines))
		for j, line := range l.Lines {
			c.frames[i][j] = functions[line.Function]
		}
	}
	for i := len(p.Stacks) - 1; i > 0; i-- { // backwards, so that callees come in the order in which they were first called
		parent := p.Stacks[i].Parent
		c.sibling[i] = c.child[parent]
		c.child[parent] = int32(i)
	}
	for i := range p.Samples {
		c.start[p.Samples[i].Stack+1]++
	}
	for i := range p.Stacks {
		c.start[i+1] += c.start[i]
	}
	next := slices.Clone(c.start)
	for i := range p.Samples {
		at := &next[p.Samples[i].Stack]
		c.order[*at] = int32(i)
		*at++
	}
	return c
}

// functionName is a function's name for people; one without is named after its system name.
func functionName(f *boottrace.Function) string { return cmp.Or(f.Name, f.System, "[no name]") }

// placeName names code that has no symbol.
func placeName(p *boottrace.Profile, l *boottrace.Location) string {
	if l.Mapping >= 0 && p.Mappings[l.Mapping].Name != "" {
		return "[" + p.Mappings[l.Mapping].Name + "]"
	}
	return "[unknown]"
}

// samples returns the indices of a stack's samples.
func (c *calls) samples(stack int) []int32 { return c.order[c.start[stack]:c.start[stack+1]] }

// walk calls enter for every stack but the root, callers before callees, and leave when it is done with a stack's callees. It needs
// no memory of its own, however deep the stacks are.
func (c *calls) walk(enter, leave func(stack int)) {
	if len(c.p.Stacks) == 0 {
		return
	}
	for at := 0; ; {
		switch {
		case c.child[at] != 0:
			at = int(c.child[at])
		default:
			for at != 0 && c.sibling[at] == 0 {
				leave(at)
				at = c.p.Stacks[at].Parent
			}
			if at == 0 {
				return
			}
			leave(at)
			at = int(c.sibling[at])
		}
		enter(at)
	}
}

// use is what a function used, in columns: itself, and with all that it called.
type use struct {
	frame       int32
	self, total []uint64
}

// uses adds up what each function used, in columns that add fills from a sample. Functions that used nothing are left out.
// What was used at the root itself, by no function, is not in it.
func (c *calls) uses(columns int, add func(s *boottrace.Sample, into []uint64)) []use {
	all := make([]use, len(c.names))
	cells := make([]uint64, 2*columns*len(c.names))
	for i := range all {
		all[i] = use{int32(i), cells[:columns:columns], cells[columns : 2*columns : 2*columns]}
		cells = cells[2*columns:]
	}
	var (
		sum     = make([]uint64, columns)     // of all that was seen
		before  []uint64                      // sum, when each frame that is being executed was entered
		running = make([]int32, len(c.names)) // how often each frame is: a recursive function counts once
		here    = make([]uint64, columns)
	)
	c.walk(func(stack int) {
		frames := c.frames[c.p.Stacks[stack].Location]
		for i := len(frames) - 1; i >= 0; i-- {
			if running[frames[i]]++; running[frames[i]] == 1 {
				before = append(before, sum...)
			}
		}
		for _, i := range c.samples(stack) {
			clear(here)
			add(&c.p.Samples[i], here)
			self := all[frames[0]].self
			for col, v := range here {
				self[col] += v
				sum[col] += v
			}
		}
	}, func(stack int) {
		for _, f := range c.frames[c.p.Stacks[stack].Location] {
			if running[f]--; running[f] == 0 {
				top := before[len(before)-columns:]
				for col := range sum {
					all[f].total[col] += sum[col] - top[col]
				}
				before = before[:len(before)-columns]
			}
		}
	})
	return slices.DeleteFunc(all, func(u use) bool {
		return !slices.ContainsFunc(u.total, func(v uint64) bool { return v != 0 })
	})
}

// top sorts uses by one column, itself first, and returns the first n that have anything in it.
func (c *calls) top(uses []use, column, n int) []use {
	var some []use
	for _, u := range uses {
		if u.self[column] > 0 {
			some = append(some, u)
		}
	}
	slices.SortFunc(some, func(a, b use) int {
		return cmp.Or(cmp.Compare(b.self[column], a.self[column]), cmp.Compare(b.total[column], a.total[column]), cmp.Compare(c.names[a.frame], c.names[b.frame]))
	})
	return some[:min(n, len(some))]
}
