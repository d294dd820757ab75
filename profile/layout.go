package profile

import (
	"slices"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// firstUses returns for each path the index of the first request that was made for it, or of a file that was only read along with
// others of the first that read it. Of structures ("") it is 0.
func firstUses(requests []boottrace.Request) map[string]int {
	uses := map[string]int{"": 0}
	for i, path := range causes(requests) {
		if _, ok := uses[path]; !ok {
			uses[path] = i
		}
	}
	for i := range requests {
		for _, p := range requests[i].Parts {
			if _, ok := uses[p.Path]; !ok {
				uses[p.Path] = i
			}
		}
	}
	return uses
}

// causes returns for each request the path that it was made for, or "" for a structure of the file system or what is not known.
//
// A guest reads more than it needs: the end of one file with the start of the next. What a request was for is clear if it reads
// nothing else, or structures that were not read before. Of the others, one is for the file that the request right after it goes
// on with, or the one right before it, whose cause is known; or else for a file that no other request is known to be for.
func causes(requests []boottrace.Request) []string {
	n := len(requests)
	cause, known := make([]string, n), make([]bool, n)
	reads := func(i int, path string) bool {
		return path != "" && slices.ContainsFunc(requests[i].Parts, func(p boottrace.Part) bool { return p.Path == path })
	}
	used := make(map[string]bool) // some request is known to be for it
	set := func(i int, path string) {
		cause[i], known[i], used[path] = path, true, true
	}
	type structure struct {
		disk int
		what string
	}
	structures := make(map[structure]*extents)
	for i := range requests {
		q := &requests[i]
		fresh, alone := false, true
		for _, p := range q.Parts {
			alone = alone && p.Path == q.Parts[0].Path
			if p.Path != "" {
				continue
			}
			s := structure{q.Disk, p.What}
			if structures[s] == nil {
				structures[s] = new(extents)
			}
			fresh = len(structures[s].add(p.Offset, p.Offset+p.Length)) > 0 || fresh
		}
		switch {
		case len(q.Parts) == 0 || fresh:
			set(i, "")
		case alone:
			set(i, q.Parts[0].Path)
		}
	}
	for i := n - 2; i >= 0; i-- {
		if !known[i] && known[i+1] && reads(i, cause[i+1]) {
			set(i, cause[i+1])
		}
	}
	for i := range requests {
		if known[i] {
			continue
		}
		path := ""
		if i > 0 && reads(i, cause[i-1]) {
			path = cause[i-1]
		}
		for _, p := range requests[i].Parts {
			if path == "" && p.Path != "" && !used[p.Path] {
				path = p.Path
			}
		}
		for _, p := range requests[i].Parts {
			if path == "" {
				path = p.Path
			}
		}
		set(i, path)
	}
	return cause
}
