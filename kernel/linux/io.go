package linux

import "github.com/firstlight-boot/firstlight/kernel/vfs"

// Flags of preadv2 and pwritev2 (include/uapi/linux/fs.h): high priority, synchronous in two ways, not waiting, appending. All but the
// last mean nothing here.
const (
	rwfAppend = 0x10
	rwfKnown  = 1 | 2 | 4 | 8 | rwfAppend
)

const (
	maxIO  = 0x7ffff000 // bytes that one call moves at most
	maxIOV = 1024
)

// span is a piece of the program's memory that takes part in a transfer.
type span struct{ va, size uint64 }

// one makes a call on a single buffer one on a list of spans.
func (p *process) one(va, size uint64) ([]span, vfs.Errno) {
	if !userRange(va, size) {
		return nil, vfs.EFAULT
	}
	p.spans = append(p.spans[:0], span{va, min(size, maxIO)})
	return p.spans, 0
}

// iovec reads a list of spans from the program.
func (p *process) iovec(va, count uint64) ([]span, vfs.Errno) {
	if count > maxIOV {
		return nil, vfs.EINVAL
	}
	p.spans = p.spans[:0]
	total := uint64(0)
	for i := range count {
		at, ok1 := p.mm.get64(va + 16*i)
		size, ok2 := p.mm.get64(va + 16*i + 8)
		if !ok1 || !ok2 {
			return nil, vfs.EFAULT
		}
		if int64(size) < 0 {
			return nil, vfs.EINVAL
		}
		if !userRange(at, size) {
			return nil, vfs.EFAULT
		}
		size = min(size, maxIO-total)
		total += size
		p.spans = append(p.spans, span{at, size})
	}
	return p.spans, 0
}

func (p *process) read(t *thread, fd uint64, spans []span, err vfs.Errno) int64 {
	f := p.file(fd)
	if f == nil || !f.CanRead() {
		return -int64(vfs.EBADF)
	}
	if err != 0 {
		return -int64(err)
	}
	return p.transfer(t, f, spans, &f.Pos, false)
}

// write is write and writev, and pwritev2 at the file's own offset with its flags.
func (p *process) write(t *thread, fd, flags uint64, spans []span, err vfs.Errno) int64 {
	f := p.file(fd)
	if f == nil || !f.CanWrite() {
		return -int64(vfs.EBADF)
	}
	if err != 0 {
		return -int64(err)
	}
	if (f.Flags&vfs.OAppend != 0 || flags&rwfAppend != 0) && f.Kind == vfs.TypeReg {
		var a vfs.Attr
		f.Node.Attr(&a)
		f.Pos = a.Size
	}
	return p.transfer(t, f, spans, &f.Pos, true)
}

// positional is pread and pwrite, with vectors or without. flags are those of preadv2.
func (p *process) positional(t *thread, fd, off, flags uint64, write bool, spans []span, err vfs.Errno) int64 {
	f := p.file(fd)
	if f == nil || write && !f.CanWrite() || !write && !f.CanRead() {
		return -int64(vfs.EBADF)
	}
	if err != 0 {
		return -int64(err)
	}
	if flags&^uint64(rwfKnown) != 0 {
		return -int64(vfs.EOPNOTSUPP)
	}
	if int64(off) < 0 {
		return -int64(vfs.EINVAL)
	}
	if !f.Seekable() {
		return -int64(vfs.ESPIPE)
	}
	if write && (f.Flags&vfs.OAppend != 0 || flags&rwfAppend != 0) { // as Linux does, against POSIX
		var a vfs.Attr
		f.Node.Attr(&a)
		off = a.Size
	}
	return p.transfer(t, f, spans, &off, write)
}

// transfer moves bytes between f at *pos and the spans, and advances *pos. A call that must wait has moved t.progress bytes
// before.
func (p *process) transfer(t *thread, f *vfs.File, spans []span, pos *uint64, write bool) int64 {
	if f.Kind == vfs.TypeDir {
		return -int64(vfs.EISDIR)
	}
	total := uint64(0)
	for _, s := range spans {
		total += s.size
	}
	if total > maxRandom && !write && isRandom(f) {
		total = limit(spans, maxRandom)
	}
	if f.Kind == vfs.TypeReg && int64(*pos+total) < 0 {
		return -int64(vfs.EINVAL)
	}
	if total == 0 && f.Kind != 0 {
		return 0
	}
	if e, ok := asPipe(f); ok && write && t.progress == 0 && e.short(total) {
		return p.wait(t, f)
	}
	if f.Kind == 0 && len(spans) > 1 {
		return p.transferSmall(t, f, spans, min(total, uint64(len(p.small))), write)
	}
	done := uint64(0)
	var err vfs.Errno
	skip := t.progress
	for _, s := range spans {
		if skip >= s.size {
			skip -= s.size
			continue
		}
		n, e := p.moveSpan(f, span{s.va + skip, s.size - skip}, *pos, write)
		done += n
		*pos += n
		if err = e; err != 0 || n < s.size-skip {
			break
		}
		skip = 0
	}
	if total == 0 { // an event counter wants eight bytes and says so
		_, err = p.moveSpan(f, span{}, 0, write)
	}
	sum := t.progress + done
	if err == vfs.EAGAIN && f.Flags&vfs.ONonblock == 0 && (sum == 0 || write) {
		t.progress = sum
		return p.wait(t, f)
	}
	if err == vfs.EPIPE && write {
		p.postTo(t, sigInfo{sig: sigPipe, code: siUser, fields: sentBy})
	}
	if sum > 0 || err == 0 {
		return int64(sum)
	}
	return -int64(err)
}

// transferSmall is transfer for an event counter and the like, which takes or gives its total bytes at once.
func (p *process) transferSmall(t *thread, f *vfs.File, spans []span, total uint64, write bool) int64 {
	b := p.small[:total]
	at := uint64(0)
	var n int
	var err vfs.Errno
	if !write {
		n, err = f.Node.ReadAt(b, 0)
	}
	for _, s := range spans {
		piece := b[at:min(at+s.size, total)]
		switch {
		case write && !p.mm.copyIn(piece, s.va), !write && err == 0 && !p.mm.copyOut(s.va, piece[:min(len(piece), max(n-int(at), 0))]):
			return -int64(vfs.EFAULT)
		}
		at += uint64(len(piece))
	}
	if write {
		n, err = f.Node.WriteAt(b, 0)
	}
	switch {
	case err == vfs.EAGAIN:
		return p.wait(t, f)
	case err != 0:
		return -int64(err)
	}
	return int64(n)
}

// isRandom reports whether f is the device random or urandom.
func isRandom(f *vfs.File) bool {
	if f.Kind != vfs.TypeChar {
		return false
	}
	const random, urandom = 1<<8 | 8, 1<<8 | 9
	var a vfs.Attr
	f.Node.Attr(&a)
	return a.Rdev == random || a.Rdev == urandom
}

// limit cuts off what is beyond the first most bytes, and returns most.
func limit(spans []span, most uint64) uint64 {
	left := most
	for i := range spans {
		spans[i].size = min(spans[i].size, left)
		left -= spans[i].size
	}
	return most
}

func asPipe(f *vfs.File) (*pipeEnd, bool) {
	if f.Kind != vfs.TypeFIFO {
		return nil, false
	}
	e, ok := f.Node.(*pipeEnd)
	return e, ok
}

// wait blocks t until something happens to f, or says that it would.
func (p *process) wait(t *thread, f *vfs.File) int64 {
	if f.Flags&vfs.ONonblock != 0 {
		return -int64(vfs.EAGAIN)
	}
	return p.blockOnFile(t, f.Node, 0, eRestartSys)
}

// moveSpan moves the bytes of one span, page by page, between the file and the very frames that the program has there.
func (p *process) moveSpan(f *vfs.File, s span, pos uint64, write bool) (done uint64, err vfs.Errno) {
	access := uint32(protWrite)
	if write {
		access = protRead
	}
	if f.Kind == 0 { // an event counter's eight bytes, or whole records of signals, wherever pages end
		s.size = min(s.size, uint64(len(p.small)))
	}
	if at := s.va % pageSize; f.Kind != vfs.TypeReg && f.Kind != vfs.TypeChar && s.size <= uint64(len(p.small)) && at+s.size > pageSize || s.size == 0 {
		return p.moveSmall(f, s, pos, write)
	}
	for done < s.size {
		b := p.mm.piece(s.va+done, s.size-done, access)
		if b == nil {
			return done, vfs.EFAULT
		}
		var n int
		if write {
			n, err = f.Node.WriteAt(b, pos+done)
		} else {
			n, err = f.Node.ReadAt(b, pos+done)
		}
		done += uint64(n)
		if err != 0 || n < len(b) {
			return done, err
		}
	}
	return done, 0
}

// moveSmall is for what must not come apart, such as an event counter's eight bytes, where a page ends between them.
func (p *process) moveSmall(f *vfs.File, s span, pos uint64, write bool) (uint64, vfs.Errno) {
	b := p.small[:s.size]
	if write {
		if !p.mm.copyIn(b, s.va) {
			return 0, vfs.EFAULT
		}
		n, err := f.Node.WriteAt(b, pos)
		return uint64(n), err
	}
	for i := range b { // find out that it can be written before anything is taken from the file
		if p.mm.frame(s.va+uint64(i), protWrite) == 0 {
			return 0, vfs.EFAULT
		}
	}
	n, err := f.Node.ReadAt(b, pos)
	p.mm.copyOut(s.va, b[:n])
	return uint64(n), err
}

// maxSend is how many bytes one call copies inside the kernel, which is busy with them all the while.
const maxSend = 1 << 24

// sendfile copies between files inside the kernel.
func (p *process) sendfile(t *thread, outFD, inFD, offAt, count uint64) int64 {
	out, in := p.file(outFD), p.file(inFD)
	if out == nil || in == nil || !out.CanWrite() || !in.CanRead() {
		return -int64(vfs.EBADF)
	}
	if in.Kind != vfs.TypeReg || out.Flags&vfs.OAppend != 0 {
		return -int64(vfs.EINVAL)
	}
	pos := in.Pos
	if offAt != 0 {
		v, ok := p.mm.get64(offAt)
		if !ok {
			return -int64(vfs.EFAULT)
		}
		if int64(v) < 0 {
			return -int64(vfs.EINVAL)
		}
		pos = v
	}
	count = min(count, maxSend)
	done := uint64(0)
	var err vfs.Errno
	for done < count {
		b := p.small[:min(uint64(len(p.small)), count-done)]
		var n int
		if n, err = in.Node.ReadAt(b, pos); n == 0 || err != 0 {
			break
		}
		var put int
		put, err = out.Node.WriteAt(b[:n], out.Pos)
		out.Pos += uint64(put)
		pos += uint64(put)
		done += uint64(put)
		if err != 0 || put < n { // an event counter would take eight bytes at a time, two million times
			break
		}
	}
	if done == 0 && err == vfs.EAGAIN {
		return p.wait(t, out)
	}
	if err == vfs.EPIPE {
		p.postTo(t, sigInfo{sig: sigPipe, code: siUser, fields: sentBy})
	}
	if offAt == 0 {
		in.Pos = pos
	} else if !p.mm.put64(offAt, pos) {
		return -int64(vfs.EFAULT)
	}
	if done == 0 {
		return -int64(err)
	}
	return int64(done)
}
