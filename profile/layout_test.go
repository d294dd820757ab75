package profile

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// parseRequests reads requests as words: a letter is a file that is in the request, 0 to 9 are structures.
func parseRequests(words string) (requests []boottrace.Request) {
	for word := range strings.FieldsSeq(words) {
		q := boottrace.Request{Op: "read", Length: 1}
		for _, c := range strings.Trim(word, "-") {
			p := boottrace.Part{Path: string(c), What: "data", Length: 1}
			if c <= '9' {
				p = boottrace.Part{What: string(c), Length: 1}
			}
			q.Parts = append(q.Parts, p)
		}
		requests = append(requests, q)
	}
	return requests
}

// TestCauses has requests as parseRequests reads them.
func TestCauses(t *testing.T) {
	for _, tt := range []struct{ requests, want string }{
		{"", ""},
		{"0 a b", "- a b"},
		{"0ab", "-"},
		{"0a 0a a", "- a a"},
		{"0 - a", "- - a"},
		// Three files in a row, read from the first to the last, and in other orders.
		{"0a a ab b bc c", "- a b b c c"},
		{"0a bc c a ab b bc", "- c c a b b b"},
		{"0a bc c ab b", "- c c b b"},
		// Files that share all their requests with others.
		{"0 ab bc cd de", "- a b c d"},
		{"0 cd bc ab", "- c c a"},
		// A boot of TestIO: r is the program, c, a, d, e and b are read, i is not.
		{"01234a ir r r r r ir r r bc cd ir r ab cd d de ei ab b b bc", "- r r r r r r r r c c r r a d d d e b b b b"},
	} {
		requests := parseRequests(tt.requests)
		got, _ := causes(requests)
		for i := range got {
			if got[i] == "" {
				got[i] = "-"
			}
		}
		if want := strings.Fields(tt.want); !slices.Equal(got, want) {
			t.Errorf("%s: got\n%v, want\n%v", tt.requests, got, want)
		}
	}
}

// TestFirstUses has requests as in TestCauses, and wants files in the order of their first use.
func TestFirstUses(t *testing.T) {
	for _, tt := range []struct{ requests, want string }{
		{"0a bc c a ab b bc", "cab"},
		{"0ab", "ab"},         // read with structures, never again: where they were read
		{"0a b bc d", "abdc"}, // c came along with b
		{"0 abc d", "abcd"},   // one of the three, and they are not told apart
	} {
		uses := firstUses(parseRequests(tt.requests))
		delete(uses, "")
		got := slices.SortedFunc(maps.Keys(uses), func(a, b string) int { return cmp.Or(cmp.Compare(uses[a], uses[b]), strings.Compare(a, b)) })
		if strings.Join(got, "") != tt.want {
			t.Errorf("%s: got %s, want %s", tt.requests, got, tt.want)
		}
	}
}

// guestReads returns the requests of a guest which reads 64 KiB at a time and keeps four of them, as our kernel does: structures, parts
// of its program, and then the files of an order, whole. The files lie on the disk in the order of the alphabet.
func guestReads(random *rand.Rand, sizes []int, order []int) (requests []boottrace.Request) {
	const segment, structures, program = 64 << 10, 20 << 10, 800 << 10
	starts := []int{structures}
	for _, size := range append(sizes, program) {
		starts = append(starts, starts[len(starts)-1]+size)
	}
	var kept []int
	read := func(at int) {
		n := at / segment
		if i := slices.Index(kept, n); i >= 0 {
			kept = append(slices.Delete(kept, i, i+1), n)
			return
		}
		kept = append(kept[max(0, len(kept)-3):], n)
		q := boottrace.Request{Op: "read", Offset: uint64(n * segment), Length: segment}
		if n == 0 {
			q.Parts = append(q.Parts, boottrace.Part{What: "inodes", Length: structures})
		}
		for i, start := range starts[:len(starts)-1] {
			if from, to := max(start, n*segment), min(starts[i+1], (n+1)*segment); from < to {
				q.Parts = append(q.Parts, boottrace.Part{Path: string(rune('a' + i)), What: "data", Offset: uint64(from - start), Length: uint64(to - from)})
			}
		}
		requests = append(requests, q)
	}
	somewhere := func() {
		read(0)
		read(starts[len(sizes)] + random.IntN(program))
	}
	for range 10 {
		somewhere()
	}
	for i, f := range order {
		for at := starts[f]; at < starts[f+1]; at += 4096 {
			read(0)
			read(at)
		}
		if i%2 == 1 {
			somewhere()
		}
	}
	return requests
}

// TestFirstUsesOfGuests finds out the order in which a guest read files, from its requests: for certain if they are of more than two
// segments, and mostly if they are of one and a half.
func TestFirstUsesOfGuests(t *testing.T) {
	for _, tt := range []struct{ size, wrong int }{{150 << 10, 0}, {100 << 10, 40}} {
		wrong := 0
		for seed := range uint64(100) {
			random := rand.New(rand.NewPCG(seed, uint64(tt.size)))
			var sizes []int
			for range 8 {
				sizes = append(sizes, tt.size+random.IntN(tt.size/2))
			}
			order := random.Perm(len(sizes))[:5]
			uses := firstUses(guestReads(random, sizes, order))
			if !slices.IsSortedFunc(order, func(a, b int) int { return cmp.Compare(uses[string(rune('a'+a))], uses[string(rune('a'+b))]) }) {
				wrong++
			}
		}
		if wrong > tt.wrong {
			t.Errorf("files of %d bytes and more: %d orders of 100 are wrong", tt.size, wrong)
		}
	}
}
