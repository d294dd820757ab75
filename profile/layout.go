package profile

import (
	"cmp"
	"slices"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// firstUses returns for each path the index of the first request that was made for it, or may have been. Of files that only came along
// with requests for others the indices are beyond those of all requests, in the order in which they came; of structures ("") it is 0.
func firstUses(requests []boottrace.Request) map[string]int {
	uses := map[string]int{"": 0}
	cause, certain := causes(requests)
	for i, path := range cause {
		if _, ok := uses[path]; !ok {
			uses[path] = i
		}
	}
	for path, i := range readThrough(requests) {
		if _, ok := uses[path]; !ok {
			uses[path] = i
		}
	}
	for _, along := range []bool{false, true} {
		for i := range requests {
			for _, p := range requests[i].Parts {
				if _, ok := uses[p.Path]; ok || certain[i] && !along {
					continue
				}
				uses[p.Path] = i
				if along {
					uses[p.Path] += len(requests)
				}
			}
		}
	}
	return uses
}

// readThrough tells which files were read from their start on without a gap, by several requests, which is no accident; and the last
// request that read something new of them.
func readThrough(requests []boottrace.Request) map[string]int {
	type file struct {
		ranges extents
		fresh  []int // requests that read something new
	}
	files := make(map[string]*file)
	for i := range requests {
		for _, p := range requests[i].Parts {
			f := files[p.Path]
			if f == nil {
				f = new(file)
				files[p.Path] = f
			}
			if len(f.ranges.add(p.Offset, p.Offset+p.Length)) > 0 && (len(f.fresh) == 0 || f.fresh[len(f.fresh)-1] != i) {
				f.fresh = append(f.fresh, i)
			}
		}
	}
	through := make(map[string]int)
	for path, f := range files {
		if len(f.fresh) > 1 && len(f.ranges) == 1 && f.ranges[0][0] == 0 {
			through[path] = f.fresh[len(f.fresh)-1]
		}
	}
	return through
}

// causes returns for each request the path that it was made for, or "" for a structure of the file system or what is not known. It is
// certain that the other files in it only came along, or it is not: a structure may have been read for the files beside it too.
//
// A guest reads more than it needs: the end of one file with the start of the next. What a request was for is clear if it reads
// nothing else, or structures that were not read before. Of the others, one is for the file that the request right after it goes
// on with, or the one right before it, whose cause is known; or else for a file that no other request is known to be for.
func causes(requests []boottrace.Request) (cause []string, certain []bool) {
	n := len(requests)
	cause, certain = make([]string, n), make([]bool, n)
	known := make([]bool, n)
	reads := func(i int, path string) bool {
		return path != "" && slices.ContainsFunc(requests[i].Parts, func(p boottrace.Part) bool { return p.Path == path })
	}
	used := make(map[string]bool) // some request is known to be for it
	set := func(i int, path string, sure bool) {
		cause[i], certain[i], known[i], used[path] = path, sure, true, true
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
			set(i, "", false)
		case alone:
			set(i, q.Parts[0].Path, true)
		}
	}
	for i := n - 2; i >= 0; i-- {
		if !known[i] && known[i+1] && reads(i, cause[i+1]) {
			set(i, cause[i+1], true)
		}
	}
	started := make(map[string]bool) // some request so far was for it
	for i := range requests {
		if !known[i] {
			set(i, "", true)
			if i > 0 && reads(i, cause[i-1]) {
				cause[i] = cause[i-1]
			} else {
				cause[i], certain[i] = guess(requests[i].Parts, used, started)
				used[cause[i]] = true
			}
		}
		started[cause[i]] = true
	}
	return cause, certain
}

// guess returns the file that a request of several was for: the first that no request is known to be for, or else one that was in use
// before. certain is false if there were several to choose from.
func guess(parts []boottrace.Part, used, started map[string]bool) (path string, certain bool) {
	certain = true
	for _, p := range parts {
		switch {
		case p.Path == "" || used[p.Path] || p.Path == path:
		case path == "":
			path = p.Path
		default:
			certain = false
		}
	}
	for _, p := range parts {
		if path == "" && started[p.Path] {
			path = p.Path
		}
	}
	return cmp.Or(path, parts[0].Path), certain
}
