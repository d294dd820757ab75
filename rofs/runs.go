package rofs

import (
	"crypto/sha256"

	"github.com/firstlight-boot/firstlight/rofs/format"
)

// shareRuns gives files with the same clusters one run of records in the cluster table, and so, whoever reads them, one place in
// caches, whose keys are the records' numbers. The records behind move up.
func (p *plan) shareRuns() {
	total, end := uint64(0), uint64(0)
	first := map[[sha256.Size]byte]uint64{} // by the digest of a run's records
	h := sha256.New()
	for i := range p.files {
		f := &p.files[i]
		if f.inline {
			continue
		}
		n := &p.inodes[f.ino-1]
		count := uint64(n.Count())
		run := p.clusters[total:][:count] // runs lie in the order of the files
		total += count
		n.SetFirst(end)
		if count == 0 {
			continue
		}
		h.Reset()
		for k := range run {
			h.Write(run[k][:])
		}
		key := [sha256.Size]byte(h.Sum(nil))
		if at, ok := first[key]; ok {
			n.SetFirst(at)
			continue
		}
		first[key] = end
		copy(p.clusters[end:], run)
		end += count
	}
	if end == total {
		return
	}
	p.clusters = append(p.clusters[:end], p.clusters[total:]...)
	for i := range p.files {
		if n := &p.inodes[p.files[i].ino-1]; n.Layout() == format.LayoutTail {
			n.SetTail(n.Tail() - uint32(total-end))
		}
	}
}
