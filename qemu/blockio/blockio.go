// Package blockio reads what QEMU's trace events tell of the requests that a guest makes of its virtio disks. docs/io.md says why
// trace events, and what they cost.
package blockio

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// What a request asked for.
const (
	Read  = "read"
	Write = "write"
	Flush = "flush"
)

// Request is what a guest asked of a disk.
type Request struct {
	Op         string // Read, Write or Flush
	Disk       int    // index in the order of QEMU's devices
	Offset     uint64 // in bytes
	Length     uint64 // in bytes
	StartNanos int64  // when QEMU took it from the guest's queue: since 1970, exact to a microsecond
	EndNanos   int64  // when the device had done it; 0: it had not when the trace ended
	Status     uint8  // as the guest saw it, virtio 1.2 section 5.2.6: 0 is done, 1 an error, 2 not supported
}

// Trace is what a boot asked of its disks.
type Trace struct {
	Requests []Request // in the order in which they were made, as many as Decode was to keep
	Total    int       // requests made, kept or not
	Disks    int       // that QEMU has opened; none, and it writes no trace
	Cut      bool      // the trace became too long and ends before its boot
}

// Options returns the options that let QEMU write a trace to the file called path, which Decode reads. QEMU truncates it.
func Options(path string) []string {
	args := []string{"-msg", "timestamp=on", "-D", path}
	for _, e := range events {
		args = append(args, "-trace", e.name)
	}
	return args
}

// MaxRequests bounds the requests of a boot that package qemu keeps.
const MaxRequests = 1 << 14

// StatusOK is the Status of a request that was done.
const StatusOK = 0

// sectorSize is the unit of the sectors in QEMU's events, whatever the disk's own block size: virtio 1.2 section 5.2.4.
const sectorSize = 512

// ErrFormat is wrapped by errors about a trace that is not as expected.
var ErrFormat = errors.New("not a trace of QEMU's log backend")

// FormatError says what is wrong with a trace, and where.
type FormatError struct {
	Offset int64  // of the line
	Field  string // of the event
	Err    error
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("QEMU's trace, byte %d, %s: %v", e.Offset, e.Field, e.Err)
}

func (e *FormatError) Unwrap() error { return e.Err }

// maxLine bounds a line in bytes. What is longer is no event of ours.
const maxLine = 4096

// maxPopped bounds the elements of queues whose end is not known yet: one is forgotten when it is exceeded.
const maxPopped = 1 << 16

// events are those that a trace needs: hw/block/trace-events, hw/virtio/trace-events and block/trace-events of QEMU 7.2.
var events = []struct {
	name string
	take func(d *decoder, l *line)
}{
	// QEMU reads the first sector of each disk in their order when it makes the devices, which numbers the disks: a request
	// names the device only, but the next access to a backend after it, which is under the same lock, is its own.
	{"blk_co_preadv", (*decoder).backend},
	{"blk_co_pwritev", (*decoder).backend},
	{"virtqueue_pop", (*decoder).pop},
	{"virtio_blk_handle_read", func(d *decoder, l *line) { d.request(l, Read) }},
	{"virtio_blk_handle_write", func(d *decoder, l *line) { d.request(l, Write) }},
	{"virtio_blk_req_complete", (*decoder).complete},
}

// decoder turns events into requests.
type decoder struct {
	keep   int
	trace  Trace
	popped map[uint64]element // by their address, while they are under way
	open   map[uint64]int     // index of requests under way, by the same; -1: it is not kept
	disks  map[uint64]int     // by their backend's address
	vdevs  map[uint64]int     // disks by their device's address
	last   uint64             // device that asked for something last, and is not known yet
	of     []uint64           // devices of Requests
}

// element is something taken from a queue.
type element struct {
	nanos   int64
	in, out uint64 // buffers that the device writes and reads
}

// Decode reads a trace and keeps up to keep requests. A last line without an end is left out: QEMU was killed in it.
func Decode(r io.Reader, keep int) (*Trace, error) {
	d := &decoder{keep: keep, popped: make(map[uint64]element), open: make(map[uint64]int), disks: make(map[uint64]int), vdevs: make(map[uint64]int)}
	b := bufio.NewReaderSize(r, maxLine)
	var off int64
	for long := false; ; {
		p, err := b.ReadSlice('\n')
		switch {
		case err == io.EOF:
			d.finish()
			return &d.trace, nil
		case err == bufio.ErrBufferFull:
			long = true
		case err != nil:
			return nil, fmt.Errorf("QEMU's trace: %w", err)
		case !long:
			if err := d.line(p[:len(p)-1], off); err != nil {
				return nil, err
			}
		default:
			long = false
		}
		off += int64(len(p))
	}
}

// line is an event.
type line struct {
	off   int64
	nanos int64
	args  []byte // names and values
	err   error  // the first
}

// line takes one line: "TID@SECONDS.MICROSECONDS:EVENT NAME VALUE NAME VALUE…". Other lines are other messages of QEMU.
func (d *decoder) line(p []byte, off int64) error {
	_, rest, ok := bytes.Cut(p, []byte("@"))
	if !ok {
		return nil
	}
	at, rest, ok := bytes.Cut(rest, []byte(":"))
	if !ok {
		return nil
	}
	name, args, _ := bytes.Cut(rest, []byte(" "))
	for _, e := range events {
		if e.name != string(name) {
			continue
		}
		l := &line{off: off, args: args}
		l.nanos, l.err = clock(at)
		if l.err != nil {
			return &FormatError{off, "time", l.err}
		}
		e.take(d, l)
		return l.err
	}
	return nil
}

// clock reads the time of an event, in nanoseconds since 1970.
func clock(at []byte) (int64, error) {
	s, us, _ := bytes.Cut(at, []byte("."))
	sec, err := strconv.ParseUint(string(s), 10, 33)
	micros, err2 := strconv.ParseUint(string(us), 10, 32)
	if err != nil || err2 != nil || len(us) != 6 {
		return 0, fmt.Errorf("%w: time %q: want seconds.microseconds", ErrFormat, at)
	}
	return int64(sec)*1e9 + int64(micros)*1e3, nil
}

// arg returns the value of a name, a number.
func (l *line) arg(name string) uint64 {
	for rest := l.args; len(rest) > 0; {
		var key, value []byte
		key, rest, _ = bytes.Cut(rest, []byte(" "))
		value, rest, _ = bytes.Cut(rest, []byte(" "))
		if string(key) != name {
			continue
		}
		v, err := strconv.ParseUint(string(value), 0, 64)
		if err != nil {
			// glibc's %p of a null pointer; a number that cannot be, as -1, is no address and no count.
			if string(value) == "(nil)" {
				return 0
			}
			l.fail(name, fmt.Errorf("%w: %q is no number", ErrFormat, value))
		}
		return v
	}
	l.fail(name, fmt.Errorf("%w: it is missing", ErrFormat))
	return 0
}

func (l *line) fail(field string, err error) {
	if l.err == nil {
		l.err = &FormatError{l.off, field, err}
	}
}

// backend takes an access to a disk's backend.
func (d *decoder) backend(l *line) {
	blk := l.arg("blk")
	if l.err != nil {
		return
	}
	disk, ok := d.disks[blk]
	if !ok && len(d.disks) < maxPopped {
		disk = len(d.disks)
		d.disks[blk] = disk
	}
	if d.last != 0 {
		d.vdevs[d.last] = disk
		d.last = 0
	}
}

func (d *decoder) pop(l *line) {
	elem, e := l.arg("elem"), element{l.nanos, l.arg("in_num"), l.arg("out_num")}
	if l.err != nil {
		return
	}
	if len(d.popped) >= maxPopped {
		clear(d.popped)
	}
	d.popped[elem] = e
}

func (d *decoder) request(l *line, op string) {
	vdev, req, sector, sectors := l.arg("vdev"), l.arg("req"), l.arg("sector"), l.arg("nsectors")
	if l.err != nil {
		return
	}
	if sector > 1<<54 || sectors > 1<<54 {
		l.fail("sector", fmt.Errorf("%w: %d sectors from %d on", ErrFormat, sectors, sector))
		return
	}
	d.last = 0
	if _, ok := d.vdevs[vdev]; !ok && len(d.vdevs) < maxPopped {
		d.last = vdev
	}
	d.add(req, vdev, Request{Op: op, Offset: sector * sectorSize, Length: sectors * sectorSize, StartNanos: l.nanos})
}

// add adds a request that begins, when its element was taken from the queue if that is known.
func (d *decoder) add(req, vdev uint64, q Request) {
	if e, ok := d.popped[req]; ok {
		q.StartNanos = e.nanos
		delete(d.popped, req)
	}
	d.trace.Total++
	at := -1
	if len(d.trace.Requests) < d.keep {
		at = len(d.trace.Requests)
		d.trace.Requests = append(d.trace.Requests, q)
		d.of = append(d.of, vdev)
	}
	if len(d.open) < maxPopped {
		d.open[req] = at
	}
}

func (d *decoder) complete(l *line) {
	vdev, req, status := l.arg("vdev"), l.arg("req"), l.arg("status")
	if l.err != nil {
		return
	}
	if status > 255 {
		l.fail("status", fmt.Errorf("%w: %d", ErrFormat, status))
		return
	}
	if _, ok := d.open[req]; !ok {
		// A flush has no event of its own, but nothing else has just a header and a status.
		if e, ok := d.popped[req]; !ok || e.in != 1 || e.out != 1 {
			delete(d.popped, req)
			return
		}
		d.add(req, vdev, Request{Op: Flush, StartNanos: l.nanos})
	}
	if at, ok := d.open[req]; ok && at >= 0 {
		q := &d.trace.Requests[at]
		q.EndNanos, q.Status = max(l.nanos, q.StartNanos), uint8(status)
	}
	delete(d.open, req)
}

// finish numbers the disks of the requests, and puts them in order: a flush is known at its end only.
func (d *decoder) finish() {
	d.trace.Disks = len(d.disks)
	for i := range d.trace.Requests {
		d.trace.Requests[i].Disk = d.vdevs[d.of[i]]
	}
	slices.SortStableFunc(d.trace.Requests, func(a, b Request) int { return cmp.Compare(a.StartNanos, b.StartNanos) })
}
