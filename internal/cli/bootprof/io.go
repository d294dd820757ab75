package bootprof

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/imgmap"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/blockio"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
)

// setRequests adds the disk requests of a run whose disks were traced. Times mean nothing in a counting run.
func (p *plan) setRequests(o *outcome, result *qemu.Result) error {
	if err := result.DisksErr; err != nil && p.mustIO {
		return errorf(exitHost, "--io: %w", err)
	}
	t := result.Disks
	if t == nil {
		return nil
	}
	o.IOTotal = t.Total
	if t.Cut {
		p.notes = append(p.notes, "the guest made so many disk requests that their trace ends before the boot does: there are more than are counted")
	}
	for _, q := range t.Requests[:min(len(t.Requests), boottrace.MaxRequests)] {
		r := boottrace.Request{Op: q.Op, Disk: q.Disk, Offset: q.Offset, Length: q.Length}
		switch {
		case q.EndNanos == 0: // the guest ended first
			r.Op = "unfinished " + q.Op
			q.EndNanos = max(result.Wall.Nanoseconds(), q.StartNanos)
		case q.Status != blockio.StatusOK:
			r.Op = "failed " + q.Op
		}
		if o.Kind != boottrace.Counting {
			r.StartNanos, r.Nanos = max(q.StartNanos, 1), max(q.EndNanos-q.StartNanos, 1)
		}
		o.IO = append(o.IO, r)
	}
	return nil
}

// requestFunction is the function of our kernel that makes a disk request, one each time.
const requestFunction = "github.com/firstlight-boot/firstlight/kernel/dev.(*block).request"

// setDisks prepares a plan whose disk requests are to be recorded.
func (p *plan) setDisks(tell *teller) error {
	if len(p.config.Disks) == 0 {
		if p.mustIO {
			tell.note("--io: the guest has no disk; --disk gives it one")
		}
		return nil
	}
	for _, path := range p.config.Disks {
		info, err := os.Stat(path)
		if err != nil {
			return usagef("%w", err)
		}
		p.disks = append(p.disks, info)
	}
	if p.target.flavour == image.FlavourNative {
		kernel, err := p.target.symbols()
		if err != nil {
			return err
		}
		if kernel != nil {
			p.request, _, _ = kernel.Find(requestFunction)
		}
	}
	return nil
}

// countRequests gives the requests of a counting run their numbers of instructions, if each was an execution of the point.
func (o *outcome) countRequests(counts *plugin.Counts, point int) {
	var at []uint64
	for _, m := range counts.Marks {
		if m.Point == point {
			at = append(at, m.Instructions)
		}
	}
	if len(at) != o.IOTotal {
		return
	}
	for i := range o.IO {
		o.IO[i].Instructions = at[i]
	}
}

// mapRequests says what the requests of a recording's runs were for, and tells the user of what it cannot say.
func (p *plan) mapRequests(rec *boottrace.Recording, tell *teller) {
	var maps []*imgmap.Map
	for i, path := range p.config.Disks {
		m, err := mapDisk(path, p.disks[i])
		if err != nil {
			tell.note("what was read from %s: %v", path, err)
		}
		maps = append(maps, m)
	}
	for i := range rec.Runs {
		run := &rec.Runs[i]
		if run.IOTotal > len(run.IO) {
			tell.note("the guest made %d disk requests, of which the first %d are recorded", run.IOTotal, len(run.IO))
		}
		left := boottrace.MaxParts
		for j := range run.IO {
			q := &run.IO[j]
			if q.Disk >= len(maps) || maps[q.Disk] == nil {
				continue
			}
			parts := maps[q.Disk].Parts(q.Offset, q.Length)
			if left -= len(parts); left < 0 {
				tell.note("the disk requests of a boot are in too many parts: what the last %d of them were for is left out", len(run.IO)-j)
				break
			}
			q.Parts = parts
		}
	}
}

// mapDisk maps a disk, which is to be the file that it was before.
func mapDisk(path string, before os.FileInfo) (*imgmap.Map, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	now, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(now, before) || now.Size() != before.Size() || !now.ModTime().Equal(before.ModTime()) {
		return nil, errors.New("the file was changed while it was booted, so it is not known what its requests were for; boot it again")
	}
	size, err := f.Seek(0, io.SeekEnd) // of a device too
	if err != nil {
		return nil, err
	}
	return imgmap.New(f, size)
}

// noteChanged tells the user if a recording's image is still there, and is not the one that was booted: the layout is of that.
func noteChanged(w io.Writer, rec *boottrace.Recording) {
	if rec.ImageID == "" {
		return
	}
	img, err := image.Open(rec.Image)
	if err != nil {
		return // it need not be there
	}
	defer img.Close()
	if img.ID() != rec.ImageID {
		fmt.Fprintf(w, "note: %s has changed since it was recorded; the layout is of the image that was booted\n", rec.Image)
	}
}
