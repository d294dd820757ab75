package linux

import "github.com/firstlight-boot/firstlight/kernel/vfs"

// flock locks a whole file. Open files hold such locks, so two of one program are in each other's way.
func (p *process) flock(t *thread, fd, op uint64) int64 {
	const shared, exclusive, noWait, unlock = 1, 2, 4, 8
	f := p.file(fd)
	if f == nil {
		return -int64(vfs.EBADF)
	}
	want := uint8(op &^ noWait)
	if op > 15 || want != shared && want != exclusive && want != unlock {
		return -int64(vfs.EINVAL)
	}
	if f.Lock == want {
		return 0
	}
	if f.Lock != 0 { // another kind of lock is not taken in its place, but after it
		f.Lock = 0
		p.fileEvent(f.Node, anyEvent)
	}
	if want == unlock {
		return 0
	}
	for i := range p.files {
		o := p.files[i].file
		if o == nil || o == f || o.Node != f.Node || o.Lock == 0 || o.Lock == shared && want == shared {
			continue
		}
		if op&noWait != 0 {
			return -int64(vfs.EAGAIN)
		}
		return p.blockOnFile(t, f.Node, 0, eRestartSys)
	}
	f.Lock = want
	return 0
}

// recordLock is fcntl on a struct flock at addr. Such locks are the process's, and no other could hold one; those of open files
// (F_OFD_…) are not told apart.
func (p *process) recordLock(f *vfs.File, cmd, addr uint64) int64 {
	const forReading, forWriting, unlocked = 0, 1, 2
	var b [32]byte // type and whence in 16 bits each, start, length, pid
	if !p.mm.copyIn(b[:], addr) {
		return -int64(vfs.EFAULT)
	}
	kind, whence, start, length := le16(b[:]), le16(b[2:]), int64(le64(b[8:])), int64(le64(b[16:]))
	query := cmd == fGetLk || cmd == fOFDGetLk
	ofd := cmd == fOFDGetLk || cmd == fOFDSetLk || cmd == fOFDSetLkW
	switch whence {
	case 0:
	case 1:
		start += int64(f.Pos)
	case 2:
		var a vfs.Attr
		f.Node.Attr(&a)
		start += int64(a.Size)
	default:
		return -int64(vfs.EINVAL)
	}
	switch {
	case kind > unlocked, query && kind == unlocked && !ofd, start < 0, length < 0 && start+length < 0, ofd && le32(b[24:]) != 0:
		return -int64(vfs.EINVAL)
	case length > 0 && start+length-1 < 0:
		return -int64(vfs.EOVERFLOW)
	case query:
		set16(b[:], unlocked)
		if !p.mm.copyOut(addr, b[:2]) {
			return -int64(vfs.EFAULT)
		}
	case kind == forReading && !f.CanRead(), kind == forWriting && !f.CanWrite():
		return -int64(vfs.EBADF)
	}
	return 0
}
