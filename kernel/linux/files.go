package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
	"github.com/firstlight-boot/firstlight/kernel/vfs/tmpfs"
)

// maxFiles is the limit on descriptors, RLIMIT_NOFILE.
const maxFiles = 65536

// descriptor is an entry of the table of open files; a nil file is a free one.
type descriptor struct {
	file    *vfs.File
	cloexec bool
}

// file returns the open file of a descriptor; nil if there is none, or if it only names a file (O_PATH).
func (p *process) file(fd uint64) *vfs.File {
	if f := p.named(fd); f != nil && f.Flags&vfs.OPath == 0 {
		return f
	}
	return nil
}

// named is file for the calls that are content with a name.
func (p *process) named(fd uint64) *vfs.File {
	if fd := uint32(fd); uint64(fd) < uint64(len(p.files)) {
		return p.files[fd].file
	}
	return nil
}

// install gives f, of which it takes over the reference, the lowest free descriptor not below low.
func (p *process) install(f *vfs.File, low int, cloexec bool) int64 {
	fd := max(low, p.freeFD)
	for fd < len(p.files) && p.files[fd].file != nil {
		fd++
	}
	if fd >= maxFiles {
		p.release(f)
		return -int64(vfs.EMFILE)
	}
	for len(p.files) <= fd {
		p.files = append(p.files, descriptor{})
	}
	p.files[fd] = descriptor{f, cloexec}
	if low <= p.freeFD {
		p.freeFD = fd + 1
	}
	return int64(fd)
}

// release drops a descriptor's reference.
func (p *process) release(f *vfs.File) {
	f.Release()
	if f.Lock != 0 {
		p.fileEvent(f.Node, anyEvent)
	}
}

func (p *process) close(fd uint64) int64 {
	f := p.named(fd)
	if f == nil {
		return -int64(vfs.EBADF)
	}
	p.files[uint32(fd)] = descriptor{}
	p.freeFD = min(p.freeFD, int(uint32(fd)))
	p.forgetWatches(int(uint32(fd)), f)
	p.release(f)
	return 0
}

func (p *process) closeRange(first, last, flags uint64) int64 {
	const cloexec = 4
	if uint32(first) > uint32(last) || flags&^uint64(cloexec|2) != 0 {
		return -int64(vfs.EINVAL)
	}
	for fd := uint64(uint32(first)); fd < uint64(len(p.files)) && fd <= uint64(uint32(last)); fd++ {
		if p.files[fd].file == nil {
			continue
		}
		if flags&cloexec != 0 {
			p.files[fd].cloexec = true
		} else {
			p.close(fd)
		}
	}
	return 0
}

func (p *process) dup(fd uint64, low int, cloexec bool) int64 {
	f := p.named(fd)
	if f == nil {
		return -int64(vfs.EBADF)
	}
	f.Retain()
	return p.install(f, low, cloexec)
}

func (p *process) dup3(old, fd uint64, flags uint64, sameOK bool) int64 {
	f := p.named(old)
	if f == nil || uint32(fd) >= maxFiles {
		return -int64(vfs.EBADF)
	}
	if flags&^uint64(vfs.OCloexec) != 0 {
		return -int64(vfs.EINVAL)
	}
	if uint32(old) == uint32(fd) {
		if sameOK {
			return int64(uint32(fd))
		}
		return -int64(vfs.EINVAL)
	}
	f.Retain()
	p.close(fd)
	for len(p.files) <= int(uint32(fd)) {
		p.files = append(p.files, descriptor{})
	}
	p.files[uint32(fd)] = descriptor{f, flags != 0}
	return int64(uint32(fd))
}

// Commands of fcntl(2).
const (
	fDupFD        = 0
	fGetFD        = 1
	fSetFD        = 2
	fGetFL        = 3
	fSetFL        = 4
	fGetLk        = 5
	fSetLk        = 6
	fSetLkW       = 7
	fSetOwn       = 8
	fGetOwn       = 9
	fSetSig       = 10
	fGetSig       = 11
	fSetOwnEx     = 15
	fGetOwnEx     = 16
	fGetLease     = 1025
	fOFDGetLk     = 36
	fOFDSetLk     = 37
	fOFDSetLkW    = 38
	fDupFDCloexec = 1030
	fGetPipeSize  = 1032
	fSetPipeSize  = 1031
	largeFile     = 0o100000
)

func (p *process) fcntl(fd, cmd, arg uint64) int64 {
	f := p.named(fd)
	if f == nil {
		return -int64(vfs.EBADF)
	}
	d := &p.files[uint32(fd)]
	if f.Flags&vfs.OPath != 0 {
		switch cmd {
		case fDupFD, fDupFDCloexec, fGetFD, fSetFD, fGetFL:
		default:
			return -int64(vfs.EBADF)
		}
	}
	switch cmd {
	case fDupFD, fDupFDCloexec:
		if arg >= maxFiles {
			return -int64(vfs.EINVAL)
		}
		return p.dup(fd, int(arg), cmd == fDupFDCloexec)
	case fGetFD:
		if d.cloexec {
			return 1
		}
		return 0
	case fSetFD:
		d.cloexec = arg&1 != 0
		return 0
	case fGetFL:
		return int64(f.Flags)
	case fSetFL:
		const direct, noAtime = 0o40000, 0o1000000
		const settable = vfs.OAppend | vfs.ONonblock | direct | noAtime
		f.Flags = f.Flags&^settable | uint32(arg)&settable
		return 0
	case fSetLk, fSetLkW, fOFDSetLk, fOFDSetLkW, fGetLk, fOFDGetLk:
		return p.recordLock(f, cmd, arg)
	case fSetOwn, fGetOwn, fSetSig, fGetSig, fSetOwnEx: // nobody is told of what happens to a file
		return 0
	case fGetOwnEx:
		if !p.mm.put64(arg, 0) {
			return -int64(vfs.EFAULT)
		}
		return 0
	case fGetLease:
		const unlocked = 2
		return unlocked
	case fGetPipeSize, fSetPipeSize:
		if f.Kind != vfs.TypeFIFO {
			return -int64(vfs.EBADF)
		}
		return pipeSize
	}
	return -int64(vfs.EINVAL)
}

// Requests of ioctl(2).
const (
	ioFionread = 0x541b
	ioFionbio  = 0x5421
	ioFioclex  = 0x5451
	ioFionclex = 0x5450
)

func (p *process) ioctl(fd, req, arg uint64) int64 {
	f := p.file(fd)
	if f == nil {
		return -int64(vfs.EBADF)
	}
	switch req {
	case ioFionbio:
		v, ok := p.mm.get32(arg)
		if !ok {
			return -int64(vfs.EFAULT)
		}
		f.Flags &^= vfs.ONonblock
		if v != 0 {
			f.Flags |= vfs.ONonblock
		}
		return 0
	case ioFioclex, ioFionclex:
		p.files[uint32(fd)].cloexec = req == ioFioclex
		return 0
	case ioFionread:
		var n uint64
		switch {
		case f.Kind == vfs.TypeReg:
			var a vfs.Attr
			f.Node.Attr(&a)
			if a.Size > f.Pos {
				n = a.Size - f.Pos
			}
		case f.Kind == vfs.TypeFIFO:
			if e, ok := f.Node.(*pipeEnd); ok {
				n = uint64(e.pipe.used)
			}
		default:
			return -int64(vfs.ENOTTY)
		}
		if !p.mm.put32(arg, uint32(n)) {
			return -int64(vfs.EFAULT)
		}
		return 0
	}
	return -int64(vfs.ENOTTY) // there is no terminal
}

const atFDCWD = -100

// Flags of the …at calls.
const (
	atSymlinkNofollow = 0x100
	atRemoveDir       = 0x200
	atEaccess         = 0x200
	atSymlinkFollow   = 0x400
	atNoAutomount     = 0x800
	atEmptyPath       = 0x1000
	atStatxSync       = 0x6000
)

// from returns the directory that a relative path starts from.
func (p *process) from(dirfd uint64, path string) (*vfs.Loc, vfs.Errno) {
	if int32(dirfd) == atFDCWD || path != "" && path[0] == '/' {
		return p.cwd, 0
	}
	f := p.named(dirfd)
	if f == nil {
		return nil, vfs.EBADF
	}
	if f.Kind != vfs.TypeDir {
		return nil, vfs.ENOTDIR
	}
	return f.Loc, 0
}

// resolve follows the path that the program has at addr.
func (p *process) resolve(dirfd, addr uint64, follow bool) (vfs.Found, vfs.Errno) {
	from, path, err := p.path(dirfd, addr)
	if err != 0 {
		return vfs.Found{}, err
	}
	return p.ns.Resolve(from, path, follow)
}

// entry finds the entry of a directory that the path at addr names, to change it.
func (p *process) entry(dirfd, addr uint64) (vfs.Found, vfs.Errno) {
	from, path, err := p.path(dirfd, addr)
	if err != 0 {
		return vfs.Found{}, err
	}
	return p.ns.Entry(from, path)
}

// path reads the path that the program has at addr, and returns where it starts from.
func (p *process) path(dirfd, addr uint64) (from *vfs.Loc, path string, err vfs.Errno) {
	if path, err = p.mm.path(addr); err == 0 {
		from, err = p.from(dirfd, path)
	}
	return from, path, err
}

// existing is resolve for a file that must be there.
func (p *process) existing(dirfd, addr uint64, follow bool) (*vfs.Loc, vfs.Errno) {
	f, err := p.resolve(dirfd, addr, follow)
	if err == 0 && f.Loc == nil {
		err = vfs.ENOENT
	}
	return f.Loc, err
}

// existingOr is existing, where an empty path with AT_EMPTY_PATH stands for dirfd itself.
func (p *process) existingOr(dirfd, addr, flags uint64) (*vfs.Loc, vfs.Errno) {
	if flags&atEmptyPath != 0 {
		empty := addr == 0
		if !empty {
			b := p.mm.piece(addr, 1, protRead)
			if b == nil {
				return nil, vfs.EFAULT
			}
			empty = b[0] == 0
		}
		if empty {
			if int32(dirfd) == atFDCWD {
				return p.cwd, 0
			}
			if f := p.named(dirfd); f != nil {
				return f.Loc, 0
			}
			return nil, vfs.EBADF
		}
	}
	return p.existing(dirfd, addr, flags&atSymlinkNofollow == 0)
}

func (p *process) open(dirfd, addr, flags64, mode uint64) int64 {
	flags := uint32(flags64)
	if flags&(vfs.OCreat|vfs.ODirectory|vfs.OPath) == vfs.OCreat|vfs.ODirectory {
		return -int64(vfs.EINVAL)
	}
	follow := flags&vfs.ONofollow == 0 && flags&(vfs.OCreat|vfs.OExcl) != vfs.OCreat|vfs.OExcl
	found, err := p.resolve(dirfd, addr, follow)
	if err != 0 {
		return -int64(err)
	}
	const tmpfile = 0o20000000
	if flags&tmpfile != 0 && flags&vfs.OPath == 0 {
		return -int64(vfs.EOPNOTSUPP)
	}
	l := found.Loc
	created := false
	switch {
	case flags&vfs.OPath != 0:
		flags &= vfs.OPath | vfs.ODirectory | vfs.ONofollow | vfs.OCloexec
		if l == nil {
			return -int64(vfs.ENOENT)
		}
	case l == nil && flags&vfs.OCreat == 0:
		return -int64(vfs.ENOENT)
	case l == nil:
		if found.Slash {
			return -int64(vfs.EISDIR)
		}
		n, err := found.Dir.Node.Create(found.Name, vfs.TypeReg|uint32(mode)&vfs.PermMask&^p.umask)
		if err != 0 {
			return -int64(err)
		}
		l = &vfs.Loc{Node: n, Parent: found.Dir, Name: found.Name, Mount: found.Dir.Mount}
		created = true
	case flags&(vfs.OCreat|vfs.OExcl) == vfs.OCreat|vfs.OExcl:
		return -int64(vfs.EEXIST)
	}
	if flags&vfs.OPath == 0 {
		flags |= largeFile
	}
	f := vfs.NewFile(l, flags&^(vfs.OCreat|vfs.OExcl|vfs.OTrunc|vfs.OCloexec))
	switch {
	case f.Flags&vfs.OPath != 0:
		if flags&vfs.ODirectory != 0 && f.Kind != vfs.TypeDir {
			err = vfs.ENOTDIR
		}
	case flags&vfs.ODirectory != 0 && f.Kind != vfs.TypeDir:
		err = vfs.ENOTDIR
	case f.Kind == vfs.TypeLink:
		err = vfs.ELOOP
	case f.Kind == vfs.TypeDir && (flags&(vfs.AccessMode|vfs.OTrunc) != 0 || flags&vfs.OCreat != 0 && !created):
		err = vfs.EISDIR
	case f.Kind == vfs.TypeReg && f.CanWrite() && l.Mount != nil && l.Mount.ReadOnly:
		err = vfs.EROFS
	case flags&vfs.OTrunc != 0 && !created && f.Kind == vfs.TypeReg:
		if l.Mount != nil && l.Mount.ReadOnly {
			err = vfs.EROFS
			break
		}
		p.mm.forget(f.Node, 0, ^uint64(0), true)
		err = f.Node.Truncate(0)
	}
	if err == 0 && f.Kind == vfs.TypeFIFO && f.Flags&vfs.OPath == 0 {
		if e, ok := f.Node.(*pipeEnd); !ok || e.write != f.CanWrite() {
			err = vfs.ENXIO // a pipe is opened again through /proc/self/fd, at the same end; a FIFO of the image has no reader
		}
	}
	if err != 0 {
		f.Release()
		return -int64(err)
	}
	return p.install(f, 0, flags&vfs.OCloexec != 0)
}

// memfdCreate makes a file without a name, in memory. It cannot be sealed.
func (p *process) memfdCreate(name, flags uint64) int64 {
	const (
		cloexec, allowSealing, noExecSeal, exec = 1, 2, 8, 16
		maxName                                 = 250
	)
	s, err := p.mm.str(name, maxName, vfs.EINVAL)
	if err != 0 {
		return -int64(err)
	}
	if flags&^uint64(cloexec|allowSealing|noExecSeal|exec) != 0 {
		return -int64(vfs.EINVAL)
	}
	f, err := memoryFile("/memfd:" + s + " (deleted)")
	if err != 0 {
		return -int64(vfs.ENOMEM)
	}
	return p.install(f, 0, flags&cloexec != 0)
}

// memoryFile returns an open file that is in no directory, by the name that /proc shows.
func memoryFile(name string) (*vfs.File, vfs.Errno) {
	dir := tmpfs.New(0)
	n, err := dir.Create("f", vfs.TypeReg|0o777)
	if err != 0 {
		return nil, err
	}
	f := vfs.NewFile(anonymous(n, name, 0), vfs.ReadWriteF|largeFile)
	dir.Remove("f", false)
	return f, 0
}

// fadvise heeds no advice.
func (p *process) fadvise(fd, advice uint64) int64 {
	const last = 5 // POSIX_FADV_NOREUSE
	f := p.file(fd)
	switch {
	case f == nil:
		return -int64(vfs.EBADF)
	case f.Kind == vfs.TypeFIFO:
		return -int64(vfs.ESPIPE)
	case advice > last:
		return -int64(vfs.EINVAL)
	}
	return 0
}

// fsync has nothing to do: what can be written is in memory.
func (p *process) fsync(fd uint64) int64 {
	f := p.file(fd)
	switch {
	case f == nil:
		return -int64(vfs.EBADF)
	case f.Kind == vfs.TypeReg || f.Kind == vfs.TypeDir:
		return 0
	}
	return -int64(vfs.EINVAL)
}

func (p *process) lseek(fd, off, whence uint64) int64 {
	f := p.file(fd)
	if f == nil {
		return -int64(vfs.EBADF)
	}
	if f.Kind != 0 && !f.Seekable() || isConsole(f) {
		return -int64(vfs.ESPIPE)
	}
	if f.Kind == 0 || f.Kind == vfs.TypeChar { // an event counter, null, zero and their kin are the same everywhere
		return 0
	}
	var a vfs.Attr
	f.Node.Attr(&a)
	base := int64(0)
	switch whence {
	case 0:
	case 1:
		base = int64(f.Pos)
	case 2:
		base = int64(a.Size)
	case 3, 4: // SEEK_DATA, SEEK_HOLE
		if off >= a.Size {
			return -int64(vfs.ENXIO)
		}
		if s, ok := f.Node.(vfs.Sparse); ok {
			at, ok := s.NextData(off)
			if whence == 4 {
				at, ok = s.NextHole(off)
			}
			if !ok {
				return -int64(vfs.ENXIO)
			}
			off = at
		} else if whence == 4 { // all is data, and the end is a hole
			off = a.Size
		}
	default:
		return -int64(vfs.EINVAL)
	}
	pos := base + int64(off)
	if pos < 0 {
		return -int64(vfs.EINVAL)
	}
	f.Pos = uint64(pos)
	return pos
}

// removed reports whether a file has no name any more.
func removed(n vfs.Node) bool {
	var a vfs.Attr
	n.Attr(&a)
	return a.Nlink == 0
}

func isConsole(f *vfs.File) bool {
	if f.Kind != vfs.TypeChar {
		return false
	}
	var a vfs.Attr
	f.Node.Attr(&a)
	return a.Rdev>>8 == 5
}

const statSize = 144

// putStat lays out a struct stat (arch/x86/include/uapi/asm/stat.h).
func putStat(b *[statSize]byte, a *vfs.Attr, dev uint64) {
	set64(b[0:], dev)
	set64(b[8:], a.Ino)
	set64(b[16:], uint64(a.Nlink))
	set32(b[24:], a.Mode)
	set32(b[28:], a.UID)
	set32(b[32:], a.GID)
	set64(b[40:], a.Rdev)
	set64(b[48:], a.Size)
	set64(b[56:], pageSize)
	set64(b[64:], a.Blocks)
	for i, t := range [...]int64{a.Atime, a.Mtime, a.Ctime} {
		s, ns := splitTime(t)
		set64(b[72+16*i:], uint64(s))
		set64(b[80+16*i:], ns)
	}
}

func splitTime(t int64) (s int64, ns uint64) {
	s = t / 1e9
	if t %= 1e9; t < 0 {
		t += 1e9
		s--
	}
	return s, uint64(t)
}

// device numbers the file systems for st_dev.
func (p *process) device(l *vfs.Loc) uint64 {
	if l.Mount == nil {
		return 1
	}
	return l.Mount.Dev
}

func (p *process) statLoc(l *vfs.Loc, addr uint64) int64 {
	var a vfs.Attr
	var b [statSize]byte
	l.Node.Attr(&a)
	putStat(&b, &a, p.device(l))
	if !p.mm.copyOut(addr, b[:]) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (p *process) fstat(fd, addr uint64) int64 {
	f := p.named(fd)
	if f == nil {
		return -int64(vfs.EBADF)
	}
	return p.statLoc(f.Loc, addr)
}

func (p *process) fstatat(dirfd, path, addr, flags uint64) int64 {
	if flags&^uint64(atSymlinkNofollow|atNoAutomount|atEmptyPath) != 0 {
		return -int64(vfs.EINVAL)
	}
	l, err := p.existingOr(dirfd, path, flags)
	if err != 0 {
		return -int64(err)
	}
	return p.statLoc(l, addr)
}

// statx fills a struct statx (include/uapi/linux/stat.h).
func (p *process) statx(dirfd, path, flags, mask, addr uint64) int64 {
	if flags&^uint64(atSymlinkNofollow|atNoAutomount|atEmptyPath|atStatxSync) != 0 || flags&atStatxSync == atStatxSync || mask&(1<<31) != 0 {
		return -int64(vfs.EINVAL)
	}
	l, err := p.existingOr(dirfd, path, flags)
	if err != 0 {
		return -int64(err)
	}
	var a vfs.Attr
	l.Node.Attr(&a)
	var b [256]byte
	const basic = 0x7ff
	set32(b[0:], basic)
	set32(b[4:], pageSize)
	set32(b[16:], a.Nlink)
	set32(b[20:], a.UID)
	set32(b[24:], a.GID)
	set16(b[28:], uint16(a.Mode))
	set64(b[32:], a.Ino)
	set64(b[40:], a.Size)
	set64(b[48:], a.Blocks)
	for i, t := range [...]int64{a.Atime, 0, a.Ctime, a.Mtime} {
		s, ns := splitTime(t)
		set64(b[64+16*i:], uint64(s))
		set32(b[72+16*i:], uint32(ns))
	}
	set32(b[128:], uint32(a.Rdev>>8))
	set32(b[132:], uint32(a.Rdev&0xff))
	set32(b[140:], uint32(p.device(l)))
	if !p.mm.copyOut(addr, b[:]) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (p *process) statfsNode(l *vfs.Loc, addr uint64) int64 {
	var b [120]byte
	m := l.Mount
	if m == nil {
		m = p.ns.Root.Mount
	}
	set64(b[0:], m.Magic)
	set64(b[8:], pageSize)
	if m.Type == "tmpfs" || m.Type == "ramfs" {
		total, free := mem.Stats()
		set64(b[16:], total/2)
		set64(b[24:], min(free, total/2))
		set64(b[32:], min(free, total/2))
	}
	set64(b[64:], vfs.NameMax)
	set64(b[72:], pageSize)
	if m.ReadOnly {
		set64(b[80:], 1)
	}
	if !p.mm.copyOut(addr, b[:]) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (p *process) getdents64(fd, addr, size uint64) int64 {
	f := p.file(fd)
	if f == nil {
		return -int64(vfs.EBADF)
	}
	if f.Kind != vfs.TypeDir {
		return -int64(vfs.ENOTDIR)
	}
	if removed(f.Node) {
		return -int64(vfs.ENOENT)
	}
	done := uint64(0)
	var b [19 + vfs.NameMax + 1 + 7]byte
	for {
		e, next, ok, err := p.ns.ReadDir(f.Loc, f.Pos)
		if err != 0 && done == 0 {
			return -int64(err)
		}
		if !ok || err != 0 {
			return int64(done)
		}
		n := (19 + uint64(len(e.Name)) + 1 + 7) &^ 7
		if done+n > size {
			if done == 0 {
				return -int64(vfs.EINVAL)
			}
			return int64(done)
		}
		clear(b[:])
		set64(b[0:], e.Ino)
		set64(b[8:], next)
		set16(b[16:], uint16(n))
		b[18] = byte(e.Type >> 12)
		copy(b[19:], e.Name)
		if !p.mm.copyOut(addr+done, b[:n]) {
			if done == 0 {
				return -int64(vfs.EFAULT)
			}
			return int64(done)
		}
		f.Pos = next
		done += n
	}
}

func (p *process) readlinkat(dirfd, path, addr, size uint64) int64 {
	if int64(size) <= 0 {
		return -int64(vfs.EINVAL)
	}
	l, err := p.existingOr(dirfd, path, atSymlinkNofollow|atEmptyPath)
	if err != 0 {
		return -int64(err)
	}
	s, err := l.Node.Readlink()
	if err != 0 {
		return -int64(err)
	}
	if uint64(len(s)) > size {
		s = s[:size]
	}
	if !p.mm.copyOut(addr, []byte(s)) {
		return -int64(vfs.EFAULT)
	}
	return int64(len(s))
}

// access tells what root may do, which the program is: all, but execute only what somebody may.
func (p *process) access(dirfd, path, mode, flags uint64) int64 {
	if mode&^7 != 0 || flags&^uint64(atEaccess|atSymlinkNofollow|atEmptyPath) != 0 {
		return -int64(vfs.EINVAL)
	}
	l, err := p.existingOr(dirfd, path, flags)
	if err != 0 {
		return -int64(err)
	}
	var a vfs.Attr
	l.Node.Attr(&a)
	kind := a.Mode & vfs.TypeMask
	if mode&2 != 0 && l.Mount != nil && l.Mount.ReadOnly && kind != vfs.TypeChar {
		return -int64(vfs.EROFS)
	}
	if mode&1 != 0 && kind != vfs.TypeDir && a.Mode&0o111 == 0 {
		return -int64(vfs.EACCES)
	}
	return 0
}

func (p *process) getcwd(addr, size uint64) int64 {
	if removed(p.cwd.Node) {
		return -int64(vfs.ENOENT)
	}
	s := append([]byte(p.cwd.Path()), 0)
	if uint64(len(s)) > size {
		return -int64(vfs.ERANGE)
	}
	if !p.mm.copyOut(addr, s) {
		return -int64(vfs.EFAULT)
	}
	return int64(len(s))
}

func (p *process) setCwd(l *vfs.Loc) int64 {
	if !isDir(l.Node) {
		return -int64(vfs.ENOTDIR)
	}
	l.Node.Retain()
	p.cwd.Node.Release()
	p.cwd = l
	return 0
}

// newName resolves a path whose last component is to be made; dir says that a slash may follow it.
func (p *process) newName(dirfd, path uint64, dir bool) (vfs.Found, vfs.Errno) {
	f, err := p.entry(dirfd, path)
	switch {
	case err != 0:
	case f.Loc != nil || f.Dots:
		err = vfs.EEXIST
	case f.Slash && !dir:
		err = vfs.ENOENT
	}
	return f, err
}

func (p *process) mkdirat(dirfd, path, mode uint64) int64 {
	f, err := p.newName(dirfd, path, true)
	if err == 0 {
		const permissions = 0o1777 // and no other bit
		_, err = f.Dir.Node.Create(f.Name, vfs.TypeDir|uint32(mode)&permissions&^p.umask)
	}
	return -int64(err)
}

func (p *process) mknodat(dirfd, path, mode uint64) int64 {
	f, err := p.newName(dirfd, path, false)
	if err == 0 {
		kind := uint32(mode) & vfs.TypeMask
		switch kind {
		case 0:
			kind = vfs.TypeReg
		case vfs.TypeDir:
			return -int64(vfs.EPERM)
		case vfs.TypeReg, vfs.TypeFIFO, vfs.TypeChar, vfs.TypeBlock, vfs.TypeSock:
		default:
			return -int64(vfs.EINVAL)
		}
		_, err = f.Dir.Node.Create(f.Name, kind|uint32(mode)&vfs.PermMask&^p.umask)
	}
	return -int64(err)
}

func (p *process) symlinkat(target, dirfd, path uint64) int64 {
	to, err := p.mm.path(target)
	if err == 0 && to == "" {
		err = vfs.ENOENT
	}
	if err != 0 {
		return -int64(err)
	}
	f, err := p.newName(dirfd, path, false)
	if err == 0 {
		err = f.Dir.Node.Symlink(f.Name, to)
	}
	return -int64(err)
}

func (p *process) linkat(fromFD, from, toFD, to, flags uint64) int64 {
	if flags&^uint64(atSymlinkFollow|atEmptyPath) != 0 {
		return -int64(vfs.EINVAL)
	}
	mode := flags & atEmptyPath
	if flags&atSymlinkFollow == 0 {
		mode |= atSymlinkNofollow
	}
	l, err := p.existingOr(fromFD, from, mode)
	if err != 0 {
		return -int64(err)
	}
	f, err := p.newName(toFD, to, false)
	if err != 0 {
		return -int64(err)
	}
	if f.Dir.Mount != l.Mount {
		return -int64(vfs.EXDEV)
	}
	return -int64(f.Dir.Node.Link(f.Name, l.Node))
}

func (p *process) unlinkat(dirfd, path, flags uint64) int64 {
	if flags&^uint64(atRemoveDir) != 0 {
		return -int64(vfs.EINVAL)
	}
	f, err := p.entry(dirfd, path)
	dir := flags != 0
	switch {
	case err != 0:
	case f.Dots && !dir:
		err = vfs.EISDIR
	case f.Dots:
		switch f.Name {
		case "/":
			err = vfs.EBUSY
		case ".":
			err = vfs.EINVAL
		default:
			err = vfs.ENOTEMPTY
		}
	case f.Loc == nil:
		err = vfs.ENOENT
	case f.Dir.Mount != f.Loc.Mount:
		err = vfs.EBUSY
	case f.Slash && !dir:
		if err = vfs.ENOTDIR; isDir(f.Loc.Node) {
			err = vfs.EISDIR
		}
	default:
		err = f.Dir.Node.Remove(f.Name, dir)
	}
	return -int64(err)
}

func (p *process) renameat(fromFD, from, toFD, to, flags uint64) int64 {
	const noReplace = 1
	if flags&^uint64(noReplace) != 0 {
		return -int64(vfs.EINVAL)
	}
	a, err := p.entry(fromFD, from)
	if err != 0 {
		return -int64(err)
	}
	b, err := p.entry(toFD, to)
	switch {
	case err != 0:
	case a.Dots || b.Dots || a.Loc != nil && a.Loc.Mount != a.Dir.Mount || b.Loc != nil && b.Loc.Mount != b.Dir.Mount:
		err = vfs.EBUSY
	case a.Loc == nil:
		err = vfs.ENOENT
	case a.Dir.Mount != b.Dir.Mount:
		err = vfs.EXDEV
	case (a.Slash || b.Slash) && !isDir(a.Loc.Node):
		err = vfs.ENOTDIR
	default:
		err = a.Dir.Node.Rename(a.Name, b.Dir.Node, b.Name, flags != 0)
	}
	if err == 0 && isDir(a.Loc.Node) {
		p.cwd.Moved(a.Loc.Node, b.Dir, b.Name)
		for i := range p.files {
			if f := p.files[i].file; f != nil {
				f.Loc.Moved(a.Loc.Node, b.Dir, b.Name)
			}
		}
	}
	return -int64(err)
}

func (p *process) truncateNode(l *vfs.Loc, size uint64) int64 {
	if int64(size) < 0 {
		return -int64(vfs.EINVAL)
	}
	if isDir(l.Node) {
		return -int64(vfs.EISDIR)
	}
	if l.Mount != nil && l.Mount.ReadOnly {
		return -int64(vfs.EROFS)
	}
	p.mm.forget(l.Node, pageUp(size), ^uint64(0), true)
	return -int64(l.Node.Truncate(size))
}

func (p *process) ftruncate(fd, size uint64) int64 {
	f := p.file(fd)
	if f == nil {
		return -int64(vfs.EBADF)
	}
	if !f.CanWrite() || f.Kind != vfs.TypeReg {
		return -int64(vfs.EINVAL)
	}
	return p.truncateNode(f.Loc, size)
}

// fallocate serves files in memory; no others can be written.
func (p *process) fallocate(fd, mode, off, size uint64) int64 {
	const keepSize, punchHole = 1, 2
	f := p.file(fd)
	if f == nil {
		return -int64(vfs.EBADF)
	}
	end := off + size
	if int64(off) < 0 || int64(size) <= 0 {
		return -int64(vfs.EINVAL)
	}
	if mode&^uint64(keepSize|punchHole) != 0 || mode == punchHole {
		return -int64(vfs.EOPNOTSUPP)
	}
	if !f.CanWrite() {
		return -int64(vfs.EBADF)
	}
	switch f.Kind {
	case vfs.TypeReg:
	case vfs.TypeFIFO:
		return -int64(vfs.ESPIPE)
	default:
		return -int64(vfs.ENODEV)
	}
	s, ok := f.Node.(vfs.Sparse)
	if int64(end) < 0 {
		return -int64(vfs.EFBIG)
	}
	if !ok {
		return -int64(vfs.EOPNOTSUPP)
	}
	if mode&punchHole != 0 {
		return -int64(p.punch(f, s, off, end))
	}
	if mode&keepSize != 0 { // behind its end nothing is kept for a file
		var a vfs.Attr
		f.Node.Attr(&a)
		end = max(min(end, a.Size), off)
	}
	return -int64(s.Allocate(off, end-off))
}

// punch makes a hole of [off, end) of the file, whose pages go from the address space first.
func (p *process) punch(f *vfs.File, s vfs.Sparse, off, end uint64) vfs.Errno {
	p.mm.forget(f.Node, pageDown(off), pageUp(end), false)
	return s.Punch(off, end-off)
}

func (p *process) setAttr(l *vfs.Loc, a *vfs.Attr, which int) int64 {
	if l.Mount != nil && l.Mount.ReadOnly {
		return -int64(vfs.EROFS)
	}
	return -int64(l.Node.SetAttr(a, which))
}

func (p *process) chmod(l *vfs.Loc, err vfs.Errno, mode uint64) int64 {
	if err != 0 {
		return -int64(err)
	}
	return p.setAttr(l, &vfs.Attr{Mode: uint32(mode) & vfs.PermMask}, vfs.SetMode)
}

func (p *process) chown(l *vfs.Loc, err vfs.Errno, uid, gid uint64) int64 {
	if err != 0 {
		return -int64(err)
	}
	var a vfs.Attr
	l.Node.Attr(&a)
	if uint32(uid) != ^uint32(0) {
		a.UID = uint32(uid)
	}
	if uint32(gid) != ^uint32(0) {
		a.GID = uint32(gid)
	}
	which := vfs.SetOwner
	if a.Mode&vfs.TypeMask == vfs.TypeReg { // the bits that lend the owner's rights go
		lent := uint32(0o4000)
		if a.Mode&0o010 != 0 {
			lent |= 0o2000
		}
		if a.Mode&lent != 0 {
			a.Mode &= vfs.PermMask &^ lent
			which |= vfs.SetMode
		}
	}
	return p.setAttr(l, &a, which)
}

// opened is place for the calls that change the file.
func (p *process) opened(fd uint64) (*vfs.Loc, vfs.Errno) {
	if f := p.file(fd); f != nil {
		return f.Loc, 0
	}
	return nil, vfs.EBADF
}

// place returns where an open file is, for the calls that take a descriptor.
func (p *process) place(fd uint64) (*vfs.Loc, vfs.Errno) {
	if f := p.named(fd); f != nil {
		return f.Loc, 0
	}
	return nil, vfs.EBADF
}

// What stands in place of nanoseconds for now, and for no change.
const timeNow, timeOmit = 1<<30 - 1, 1<<30 - 2

func (p *process) utimensat(dirfd, path, times, flags uint64) int64 {
	if flags&^uint64(atSymlinkNofollow|atEmptyPath) != 0 {
		return -int64(vfs.EINVAL)
	}
	if times != 0 {
		atime, ok1 := p.mm.get64(times + 8)
		mtime, ok2 := p.mm.get64(times + 24)
		if ok1 && ok2 && atime == timeOmit && mtime == timeOmit {
			return 0
		}
	}
	var l *vfs.Loc
	var err vfs.Errno
	if path == 0 && int32(dirfd) != atFDCWD {
		if flags != 0 {
			return -int64(vfs.EINVAL)
		}
		l, err = p.opened(dirfd)
	} else {
		l, err = p.existingOr(dirfd, path, flags)
	}
	if err != 0 {
		return -int64(err)
	}
	var a vfs.Attr
	l.Node.Attr(&a)
	now := int64(ring0.Walltime())
	set := func(at uint64, v *int64) vfs.Errno {
		s, ok1 := p.mm.get64(at)
		ns, ok2 := p.mm.get64(at + 8)
		switch {
		case !ok1 || !ok2:
			return vfs.EFAULT
		case ns == timeNow:
			*v = now
		case ns == timeOmit:
		case ns >= 1e9:
			return vfs.EINVAL
		default:
			*v = int64(s*1e9 + ns)
		}
		return 0
	}
	if times == 0 {
		a.Atime, a.Mtime = now, now
	} else if err := set(times, &a.Atime); err != 0 {
		return -int64(err)
	} else if err := set(times+16, &a.Mtime); err != 0 {
		return -int64(err)
	}
	return p.setAttr(l, &a, vfs.SetTimes)
}

// utimes is utimes and futimesat (with microseconds) and utime.
func (p *process) utimes(dirfd, path, times uint64, micro bool) int64 {
	l, err := p.existing(dirfd, path, true)
	if err != 0 {
		return -int64(err)
	}
	var a vfs.Attr
	now := int64(ring0.Walltime())
	a.Atime, a.Mtime = now, now
	switch {
	case times == 0:
	case micro:
		at, err1 := p.getTimeval(times)
		mt, err2 := p.getTimeval(times + 16)
		if err1 != 0 || err2 != 0 {
			return -int64(max(err1, err2))
		}
		a.Atime, a.Mtime = int64(at), int64(mt)
	default:
		at, ok1 := p.mm.get64(times)
		mt, ok2 := p.mm.get64(times + 8)
		if !ok1 || !ok2 {
			return -int64(vfs.EFAULT)
		}
		a.Atime, a.Mtime = int64(at*1e9), int64(mt*1e9)
	}
	return p.setAttr(l, &a, vfs.SetTimes)
}
