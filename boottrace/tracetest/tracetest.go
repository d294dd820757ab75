// Package tracetest makes recordings for tests: the same arguments give the same recording.
package tracetest

import (
	"fmt"
	"math/rand/v2"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// Profile returns an exact profile with that many stacks, and about a sample for each, of the shape that a Linux boot has: 30,000
// functions for a million stacks, called from twice as many places, some inlined, stacks of some 20 calls.
func Profile(stacks int) *boottrace.Profile {
	rnd := rand.New(rand.NewPCG(1, uint64(stacks)))
	functions := max(stacks/33, 3)
	p := &boottrace.Profile{
		Kind: boottrace.Exact, Phases: []string{"firmware", "kernel", "app"},
		Mappings: []boottrace.Mapping{
			{Name: "firmware", Start: 0xe0000, Limit: 0x100000},
			{Name: "kernel", BuildID: "0123456789abcdef", Start: 0xffffffff81000000, Limit: 0xffffffff83000000, Offset: 0x200000},
		},
		Functions: make([]boottrace.Function, functions),
		Locations: make([]boottrace.Location, 2*functions),
		Stacks:    make([]boottrace.Stack, 1, stacks),
	}
	verbs := []string{"init", "alloc", "probe", "register", "lookup", "parse", "map", "copy"}
	for i := range p.Functions {
		p.Functions[i] = boottrace.Function{
			Name: fmt.Sprintf("%s_%s_%d", verbs[rnd.IntN(len(verbs))], verbs[rnd.IntN(len(verbs))], i),
			File: fmt.Sprintf("drivers/part%d.c", i/20), Line: 1 + rnd.IntN(2000),
		}
	}
	for i := range p.Locations {
		l := &p.Locations[i]
		f := i / 2
		*l = boottrace.Location{Mapping: 1, Address: 0xffffffff81000000 + uint64(i)*48 + rnd.Uint64N(40)}
		if f == 0 {
			*l = boottrace.Location{Mapping: 0, Address: 0xe0000 + uint64(i)} // firmware has no symbols
			continue
		}
		if rnd.IntN(10) == 0 {
			l.Lines = append(l.Lines, boottrace.Line{Function: rnd.IntN(functions), Line: 1 + rnd.IntN(2000)})
		}
		l.Lines = append(l.Lines, boottrace.Line{Function: f, Line: p.Functions[f].Line + rnd.IntN(100)})
	}
	p.Stacks[0].Location = -1
	path := []int{0}
	var clock uint64
	for len(p.Stacks) < stacks {
		if len(path) > 1 && rnd.IntN(40) < len(path) {
			path = path[:len(path)-1-rnd.IntN(min(3, len(path)-1))]
			continue
		}
		own, at := len(p.Stacks), rnd.IntN(len(p.Locations))
		if own < stacks/100 {
			at = rnd.IntN(2) // the firmware
		}
		p.Stacks = append(p.Stacks, boottrace.Stack{Parent: path[len(path)-1], Location: at, First: clock})
		path = append(path, own)
		s := boottrace.Sample{Stack: own, Phase: min(own*100/stacks, 99)/99 + min(1, own*100/stacks), Instructions: 1 + rnd.Uint64N(20)*rnd.Uint64N(10)}
		if rnd.IntN(50) == 0 {
			s.TouchedBytes = 4096 * (1 + rnd.Uint64N(3))
		}
		s.User = s.Phase == 2
		clock += s.Instructions
		p.Samples = append(p.Samples, s)
	}
	return p
}

// IO returns disk requests as of a boot that reads files of an image, one after the other.
func IO(requests int) []boottrace.Request {
	rnd := rand.New(rand.NewPCG(2, uint64(requests)))
	var all []boottrace.Request
	for i := range requests {
		q := boottrace.Request{
			Op: "read", Offset: 1<<20 + uint64(i)*4096*(1+rnd.Uint64N(4)), Length: 4096 * (1 + rnd.Uint64N(8)),
			StartNanos: 40e6 + int64(i)*50_000, Nanos: 20_000 + rnd.Int64N(400_000), Instructions: 300_000 + uint64(i)*1000,
		}
		if i == 0 {
			q.Parts = []boottrace.Part{{What: "superblock", Length: 4096}}
		} else {
			q.Parts = []boottrace.Part{{Path: fmt.Sprintf("/lib/file %d", i/8), What: "data", Offset: uint64(i%8) * 32768, Length: 2 * q.Length}}
		}
		all = append(all, q)
	}
	return all
}
