package procfs

import "github.com/firstlight-boot/firstlight/kernel/vfs"

// tasks is /proc/self/task, which has a directory for each thread.
type tasks struct {
	vfs.ReadOnly
	fs *FS
}

// task is the directory of a thread, and taskFile a file in it. Both are values, of which two are equal if they are of one thread.
type task struct {
	vfs.ReadOnly
	fs  *FS
	tid int
}

type taskFile struct {
	vfs.ReadOnly
	fs   *FS
	tid  int
	file int // of taskFiles
}

var taskFiles = [...]struct {
	name string
	kind Kind
}{{"comm", Comm}, {"stat", Stat}, {"status", Status}}

// Numbers of inodes: of the directory, and from taskIno on as many a thread as perTask.
const (
	tasksIno = 999
	taskIno  = 1 << 20
	perTask  = 1 + len(taskFiles)
)

func (t *tasks) Attr(a *vfs.Attr) { *a = vfs.Attr{Ino: tasksIno, Mode: dirMode, Nlink: 1} }

func (t *tasks) Lookup(name string) (vfs.Node, vfs.Errno) {
	if tid, ok := number(name); ok && tid > 0 && t.fs.src.NextThread(tid-1) == tid {
		return task{fs: t.fs, tid: tid}, 0
	}
	return nil, vfs.ENOENT
}

// ReadDir's positions are numbers of threads: threads come and go while it is read.
func (t *tasks) ReadDir(pos uint64) (e vfs.Entry, next uint64, ok bool, err vfs.Errno) {
	tid := t.fs.src.NextThread(int(min(pos, 1<<31)))
	if tid == 0 {
		return e, pos, false, 0
	}
	var name vfs.Text
	name.Dec(uint64(tid))
	return vfs.Entry{Name: string(name), Ino: uint64(taskIno + tid*perTask), Type: vfs.TypeDir}, uint64(tid), true, 0
}

// nlink is the number of names: none when the thread has ended.
func (t task) nlink() uint32 {
	if t.fs.src.NextThread(t.tid-1) == t.tid {
		return 1
	}
	return 0
}

func (t task) Attr(a *vfs.Attr) {
	*a = vfs.Attr{Ino: uint64(taskIno + t.tid*perTask), Mode: dirMode, Nlink: t.nlink()}
}

func (t task) Lookup(name string) (vfs.Node, vfs.Errno) {
	for i := range taskFiles {
		if taskFiles[i].name == name && t.nlink() != 0 {
			return taskFile{fs: t.fs, tid: t.tid, file: i}, 0
		}
	}
	return nil, vfs.ENOENT
}

func (t task) ReadDir(pos uint64) (e vfs.Entry, next uint64, ok bool, err vfs.Errno) {
	if pos >= uint64(len(taskFiles)) {
		return e, pos, false, 0
	}
	ino := uint64(taskIno+t.tid*perTask+1) + pos
	return vfs.Entry{Name: taskFiles[pos].name, Ino: ino, Type: vfs.TypeReg}, pos + 1, true, 0
}

func (f taskFile) Attr(a *vfs.Attr) {
	*a = vfs.Attr{Ino: uint64(taskIno + f.tid*perTask + 1 + f.file), Mode: fileMode, Nlink: 1}
}

func (f taskFile) ReadAt(p []byte, off uint64) (int, vfs.Errno) {
	if f.fs.src.NextThread(f.tid-1) != f.tid {
		return 0, vfs.ESRCH
	}
	var t vfs.Text
	f.fs.src.ThreadText(&t, taskFiles[f.file].kind, f.tid)
	if off >= uint64(len(t)) {
		return 0, 0
	}
	return copy(p, t[off:]), 0
}
