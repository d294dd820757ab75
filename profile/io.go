package profile

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// DiskUse sums up the disk requests that a boot made before it was ready. docs/io.md defines the figures.
type DiskUse struct {
	Requests   int    `json:"requests"`
	Reads      int    `json:"reads"`             // those of them that read
	Later      int    `json:"later,omitempty"`   // requests made when it was ready: they are in no other figure
	Dropped    int    `json:"dropped,omitempty"` // requests that were made and not recorded, nor these
	Failed     int    `json:"failed,omitempty"`  // requests that the disk did not do: their bytes are in no figure
	ReadBytes  uint64 `json:"read_bytes"`        // of the disk
	WroteBytes uint64 `json:"wrote_bytes,omitempty"`
	// DistinctBytes are those of the disk that were read at least once.
	DistinctBytes uint64 `json:"distinct_bytes"`
	// ContentBytes are the distinct bytes of files and of the file system's structures that lie there, decoded, without
	// files that only came along. They are 0 where it is not known what lies on the disk.
	ContentBytes uint64 `json:"content_bytes,omitempty"`
	// Amplification is ReadBytes ÷ ContentBytes, or ÷ DistinctBytes without those. Compression makes it smaller.
	Amplification *float64 `json:"amplification,omitempty"`
	// BusyMS is the time before ready in which at least one request was under way, LatencyMS the sum of all latencies.
	BusyMS    *float64 `json:"busy_ms,omitempty"`
	LatencyMS *float64 `json:"latency_ms,omitempty"`
	Share     *float64 `json:"share,omitempty"` // of BusyMS in the time to ready of the same boot, 0 to 1

	Slowest []SlowRequest `json:"slowest,omitempty"` // the slowest first
	Files   []FileUse     `json:"files,omitempty"`   // in the order of their first use
}

// SlowRequest is one of the slowest disk requests.
type SlowRequest struct {
	Op        string  `json:"op"`
	Disk      int     `json:"disk"`
	Offset    uint64  `json:"offset"`
	Length    uint64  `json:"length"`
	StartMS   float64 `json:"start_ms"`
	LatencyMS float64 `json:"latency_ms"`
	What      string  `json:"what,omitempty"`
}

// FileUse is what was read of a file, or of a structure of the file system.
type FileUse struct {
	Path      string   `json:"path,omitempty"` // absolute in the guest; absent of structures
	What      string   `json:"what"`           // data, or the structure's name
	Requests  int      `json:"requests"`
	Bytes     uint64   `json:"bytes"`           // of content, each once
	Along     bool     `json:"along,omitempty"` // it only came along with requests for others
	LatencyMS *float64 `json:"latency_ms,omitempty"`
}

// maxSlowest is how many of the slowest requests are told.
const maxSlowest = 10

// diskRun returns the run whose disk requests are shown, or nil: the first that has any, of those that time them if there are.
func diskRun(r *boottrace.Recording) *boottrace.Run {
	for _, run := range r.Of(boottrace.Traced) {
		return run // also if it has none
	}
	for _, run := range slices.Concat(r.MedianRuns(), r.Of(boottrace.Timed), r.Of(boottrace.Counting)) {
		if len(run.IO) > 0 {
			return run
		}
	}
	return nil
}

// beforeReady returns the requests of a run that were made before it was ready.
func beforeReady(run *boottrace.Run) []boottrace.Request {
	return slices.DeleteFunc(slices.Clone(run.IO), func(q boottrace.Request) bool {
		return run.ReadyNanos > 0 && q.StartNanos > run.ReadyNanos ||
			run.Instructions > 0 && q.Instructions > run.Instructions
	})
}

// NewDiskUse sums up the disk requests of the median boot. It is nil when none were recorded.
func NewDiskUse(r *boottrace.Recording) *DiskUse {
	run := diskRun(r)
	if run == nil {
		return nil
	}
	requests := beforeReady(run)
	u := &DiskUse{Requests: len(requests), Later: len(run.IO) - len(requests), Dropped: max(0, run.IOTotal-len(run.IO))}
	type extent struct{ from, to uint64 }
	var busy []extent
	read := make(map[int][]extent) // by disk
	content := make(map[boottrace.Part]*extents)
	var latency int64
	files := make(map[boottrace.Part]int)
	nanos := make(map[int]float64) // by index into Files
	first := make(map[string]int)  // requests for structures, by their names
	for i := range requests {
		q := &requests[i]
		switch q.Op {
		case "read":
			u.Reads++
			u.ReadBytes += q.Length
			read[q.Disk] = append(read[q.Disk], extent{q.Offset, q.Offset + q.Length})
		case "write":
			u.WroteBytes += q.Length
		case "flush":
		default:
			u.Failed++
		}
		latency += q.Nanos
		end := q.StartNanos + q.Nanos
		if run.ReadyNanos > 0 {
			end = min(end, run.ReadyNanos)
		}
		busy = append(busy, extent{uint64(q.StartNanos), uint64(end)})
		var last boottrace.Part
		shares := partNanos(q)
		for j, part := range q.Parts {
			key := boottrace.Part{Path: part.Path, What: part.What}
			at, ok := files[key]
			if !ok {
				at = len(u.Files)
				files[key] = at
				if key.Path == "" {
					first[key.What] = i
				}
				u.Files = append(u.Files, FileUse{Path: part.Path, What: part.What})
			}
			if j == 0 || key != last {
				u.Files[at].Requests++
			}
			if q.Op == "read" {
				if content[key] == nil {
					content[key] = new(extents)
				}
				for _, fresh := range content[key].add(part.Offset, part.Offset+part.Length) {
					u.Files[at].Bytes += fresh[1] - fresh[0]
				}
			}
			nanos[at] += float64(shares[j])
			last = key
		}
	}
	union := func(all []extent) (n uint64) {
		slices.SortFunc(all, func(a, b extent) int { return cmp.Compare(a.from, b.from) })
		var to uint64
		for _, e := range all {
			if e.to > to {
				n += e.to - max(e.from, to)
				to = e.to
			}
		}
		return n
	}
	for _, all := range read {
		u.DistinctBytes += union(all)
	}
	if latency > 0 {
		u.LatencyMS = new(millis(float64(latency)))
		lost := float64(union(busy))
		u.BusyMS = new(millis(lost))
		if run.ReadyNanos > 0 {
			u.Share = new(lost / float64(run.ReadyNanos))
		}
		for at, n := range nanos {
			u.Files[at].LatencyMS = new(millis(n))
		}
		slowest := make([]*boottrace.Request, len(requests))
		for i := range requests {
			slowest[i] = &requests[i]
		}
		slices.SortStableFunc(slowest, func(a, b *boottrace.Request) int { return cmp.Compare(b.Nanos, a.Nanos) })
		for _, q := range slowest[:min(maxSlowest, len(slowest))] {
			u.Slowest = append(u.Slowest, SlowRequest{q.Op, q.Disk, q.Offset, q.Length, millis(float64(q.StartNanos)), millis(float64(q.Nanos)), what(q)})
		}
	}
	uses := firstUses(requests)
	use := func(f FileUse) int {
		if f.Path == "" {
			return first[f.What]
		}
		return uses[f.Path]
	}
	slices.SortStableFunc(u.Files, func(a, b FileUse) int { return cmp.Compare(use(a), use(b)) })
	for i := range u.Files {
		f := &u.Files[i]
		if f.Along = use(*f) >= len(requests); !f.Along {
			u.ContentBytes += f.Bytes
		}
	}
	if used := cmp.Or(u.ContentBytes, u.DistinctBytes); used > 0 {
		u.Amplification = new(float64(u.ReadBytes) / float64(used))
	}
	return u
}

// partNanos divides a request's latency among its parts by their lengths.
func partNanos(q *boottrace.Request) []int64 {
	var length float64
	for _, part := range q.Parts {
		length += float64(part.Length)
	}
	var sum rounder
	shares := make([]int64, len(q.Parts))
	for i, part := range q.Parts {
		share := float64(part.Length) / length
		if length == 0 {
			share = 1 / float64(len(q.Parts))
		}
		shares[i] = sum.next(float64(q.Nanos) * share)
	}
	return shares
}

// what says what a request was for: the path or the structure of its first part, and how many more there are.
func what(q *boottrace.Request) string {
	if len(q.Parts) == 0 {
		return ""
	}
	s := partName(q.Parts[0])
	if n := len(q.Parts) - 1; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}

func partName(p boottrace.Part) string {
	if p.Path == "" {
		return "[" + cmp.Or(p.What, "unknown") + "]"
	}
	return p.Path
}

// layoutRun returns the run whose order of use is told, or nil: a counting one if it has any, in which no clock takes part.
func layoutRun(r *boottrace.Recording) *boottrace.Run {
	for _, run := range r.Of(boottrace.Counting) {
		if len(run.IO) > 0 {
			return run
		}
	}
	return diskRun(r)
}

// WriteLayout writes which parts of which files a boot read, in the order of their first use, for imgbuild --layout: a line for
// each part with the path, the offset and the length in bytes of content, separated by tabs. docs/recording.md has the details.
// ok is false when no file was read.
func WriteLayout(w io.Writer, r *boottrace.Recording) (ok bool, err error) {
	run := layoutRun(r)
	if run == nil {
		return false, nil
	}
	uses := firstUses(run.IO)
	type line struct {
		path     string
		off, len uint64
	}
	var lines []line
	seen := make(map[string]*extents)
	var early []boottrace.Part // parts that were read before the use of their files
	add := func(part boottrace.Part) {
		e := seen[part.Path]
		if e == nil {
			e = new(extents)
			seen[part.Path] = e
		}
		for _, fresh := range e.add(part.Offset, part.Offset+part.Length) {
			if n := len(lines); n > 0 && lines[n-1].path == part.Path && lines[n-1].off+lines[n-1].len == fresh[0] {
				lines[n-1].len += fresh[1] - fresh[0]
				continue
			}
			lines = append(lines, line{part.Path, fresh[0], fresh[1] - fresh[0]})
		}
	}
	for i, q := range run.IO {
		if q.Op != "read" {
			continue
		}
		for _, part := range q.Parts {
			switch {
			case part.Path == "" || part.What != "data":
			case i < uses[part.Path]:
				early = append(early, part)
			default:
				early = slices.DeleteFunc(early, func(p boottrace.Part) bool {
					if p.Path == part.Path {
						add(p)
					}
					return p.Path == part.Path
				})
				add(part)
			}
		}
	}
	slices.SortStableFunc(early, func(a, b boottrace.Part) int { return cmp.Compare(uses[a.Path], uses[b.Path]) })
	for _, part := range early {
		add(part)
	}
	var b []byte
	for _, l := range lines {
		b = fmt.Appendf(b, "%s\t%d\t%d\n", quotePath(l.path), l.off, l.len)
	}
	_, err = w.Write(b)
	return len(lines) > 0, err
}

// quotePath quotes a path as a Go string if it has a character that does not print, a quote, a backslash or a number sign, with which
// a comment begins; spaces are fine.
func quotePath(path string) string {
	q := strconv.Quote(path)
	if q != `"`+path+`"` || path == "" || path[0] == '#' {
		return q
	}
	return path
}

// extents is a set of ranges, sorted and apart.
type extents [][2]uint64

// add adds a range and returns the parts of it that are new.
func (e *extents) add(from, to uint64) (fresh [][2]uint64) {
	// The ranges that touch it are those from i to j.
	i, _ := slices.BinarySearchFunc(*e, from, func(r [2]uint64, from uint64) int { return cmp.Compare(r[1], from) })
	j := i
	union := [2]uint64{from, to}
	for ; j < len(*e) && (*e)[j][0] <= to; j++ {
		r := (*e)[j]
		if from < r[0] {
			fresh = append(fresh, [2]uint64{from, r[0]})
		}
		from = max(from, r[1])
		union = [2]uint64{min(union[0], r[0]), max(union[1], r[1])}
	}
	if from < to {
		fresh = append(fresh, [2]uint64{from, to})
	}
	if union[0] < union[1] {
		*e = slices.Replace(*e, i, j, union)
	}
	return fresh
}

// diskFigure writes the line about the disk.
func (t *timeline) diskFigure() {
	run := diskRun(t.r)
	if run == nil {
		return
	}
	u := NewDiskUse(t.r)
	if u.Requests == 0 {
		t.figure("disk", "no requests", fmt.Sprintf("one %s boot", run.Kind))
		return
	}
	value := fmt.Sprintf("%d reads, %s", u.Reads, cmp.Or(size(u.ReadBytes), "nothing"))
	if u.Reads == 1 {
		value = fmt.Sprintf("1 read, %s", size(u.ReadBytes))
	}
	if u.BusyMS != nil {
		value += fmt.Sprintf(" in %.2f ms", *u.BusyMS)
	}
	if u.Share != nil {
		value += fmt.Sprintf(" (%.1f %% of the boot)", 100**u.Share)
	}
	if u.Amplification != nil {
		value += fmt.Sprintf(", amplification %.2f", *u.Amplification)
	}
	if most := slices.MaxFunc(append(u.Files, FileUse{}), func(a, b FileUse) int { return cmp.Compare(a.Bytes, b.Bytes) }); most.Bytes > 0 {
		value += "; most from " + clean(partName(boottrace.Part{Path: most.Path, What: most.What}))
	}
	if u.Failed > 0 {
		value += fmt.Sprintf("; %d failed", u.Failed)
	}
	t.figure("disk", value, fmt.Sprintf("one %s boot", run.Kind))
}
