package profile

import (
	"cmp"
	"maps"
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
