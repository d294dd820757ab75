package linux

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// The layout is what the psABI and the C library's restorer expect: the handler starts as if it had been called, so its
// stack pointer is 8 below a multiple of 16; FXSAVE wants 64 bytes of alignment here; nothing overlaps.
func TestLayFrame(t *testing.T) {
	for sp := uint64(0x7fffffff0000); sp < 0x7fffffff0000+200; sp++ {
		frame, fx := layFrame(sp)
		if frame%16 != 8 || fx%64 != 0 || frame+frSize > fx || fx+fxSize > sp || sp-frame > frSize+fxSize+64+16+8 {
			t.Fatalf("stack pointer %#x: frame %#x, floating point %#x", sp, frame, fx)
		}
	}
	// Offsets within the frame, from the structures of the C library: ucontext_t 8 bytes in, its registers at 40, the
	// pointer to the floating-point state at 224, the mask at 296; siginfo after its 304 bytes.
	for name, c := range map[string][2]int{
		"registers": {frRegs, 8 + 40}, "fpstate": {frFP, 8 + 224}, "mask": {frMask, 8 + 296}, "siginfo": {frInfo, 8 + 304}, "size": {frSize, 440},
	} {
		if c[0] != c[1] {
			t.Errorf("%s at %d, want %d", name, c[0], c[1])
		}
	}
}

func TestSigInfo(t *testing.T) {
	var b [sigInfoSize]byte
	s := sigInfo{sig: sigSegv, code: segvAccErr, fields: [4]uint64{0x123456789}}
	s.put(b[:])
	if le32(b[0:]) != 11 || le32(b[8:]) != 2 || le64(b[16:]) != 0x123456789 {
		t.Errorf("fault: %x", b[:32])
	}
	s = sigInfo{sig: 10, code: siTkill, fields: sentBy}
	s.put(b[:])
	if le32(b[0:]) != 10 || int32(le32(b[8:])) != -6 || le32(b[16:]) != 1 || le32(b[20:]) != 0 {
		t.Errorf("sent: %x", b[:32])
	}
}

func TestCallName(t *testing.T) {
	for nr, want := range map[uint64]string{
		unix.SYS_READ: "read", unix.SYS_WRITE: "write", unix.SYS_FORK: "fork", unix.SYS_OPENAT: "openat", unix.SYS_STATX: "statx",
		unix.SYS_RSEQ: "rseq", 335: "", 423: "", unix.SYS_PIDFD_SEND_SIGNAL: "pidfd_send_signal", unix.SYS_CLONE3: "clone3",
		unix.SYS_FUTEX_WAITV: "futex_waitv", 5000: "", 1 << 63: "",
	} {
		if got := callName(nr); got != want {
			t.Errorf("call %d is %q, want %q", nr, got, want)
		}
	}
}

// Error numbers are Linux's.
func TestErrno(t *testing.T) {
	for got, want := range map[vfs.Errno]unix.Errno{
		vfs.EPERM: unix.EPERM, vfs.ENOENT: unix.ENOENT, vfs.ESRCH: unix.ESRCH, vfs.EINTR: unix.EINTR, vfs.EIO: unix.EIO, vfs.ENXIO: unix.ENXIO,
		vfs.E2BIG: unix.E2BIG, vfs.ENOEXEC: unix.ENOEXEC, vfs.EBADF: unix.EBADF, vfs.ECHILD: unix.ECHILD, vfs.EAGAIN: unix.EAGAIN,
		vfs.ENOMEM: unix.ENOMEM, vfs.EACCES: unix.EACCES, vfs.EFAULT: unix.EFAULT, vfs.EBUSY: unix.EBUSY, vfs.EEXIST: unix.EEXIST,
		vfs.EXDEV: unix.EXDEV, vfs.ENODEV: unix.ENODEV, vfs.ENOTDIR: unix.ENOTDIR, vfs.EISDIR: unix.EISDIR, vfs.EINVAL: unix.EINVAL,
		vfs.EMFILE: unix.EMFILE, vfs.ENOTTY: unix.ENOTTY, vfs.EFBIG: unix.EFBIG, vfs.ENOSPC: unix.ENOSPC, vfs.ESPIPE: unix.ESPIPE,
		vfs.EROFS: unix.EROFS, vfs.EMLINK: unix.EMLINK, vfs.EPIPE: unix.EPIPE, vfs.ERANGE: unix.ERANGE, vfs.EDEADLK: unix.EDEADLK,
		vfs.ENAMETOOLONG: unix.ENAMETOOLONG, vfs.ENOSYS: unix.ENOSYS, vfs.ENOTEMPTY: unix.ENOTEMPTY, vfs.ELOOP: unix.ELOOP,
		vfs.ENODATA: unix.ENODATA, vfs.EOVERFLOW: unix.EOVERFLOW, vfs.EOPNOTSUPP: unix.EOPNOTSUPP, vfs.EAFNOSUPPORT: unix.EAFNOSUPPORT,
		vfs.ETIMEDOUT: unix.ETIMEDOUT,
	} {
		if int(got) != int(want) {
			t.Errorf("%d should be %d (%v)", got, int(want), want)
		}
	}
}

func TestQueue(t *testing.T) {
	var th [4]thread
	var q queue
	order := func() (s string) {
		for c := q.head; c != nil; c = c.nextQueue {
			s += string(rune('0' + c.tid))
		}
		return s
	}
	for i := range th {
		th[i].tid = i
		q.push(&th[i])
	}
	for _, c := range []struct {
		remove int
		want   string
	}{{1, "023"}, {3, "02"}, {3, "02"}, {0, "2"}, {2, ""}} {
		if q.remove(&th[c.remove]); order() != c.want {
			t.Fatalf("without %d: %q, want %q", c.remove, order(), c.want)
		}
	}
	q.push(&th[3])
	q.push(&th[1])
	if q.pop() != &th[3] || q.pop() != &th[1] || q.pop() != nil || q.tail != nil {
		t.Fatal("wrong order")
	}
}

func TestSplitTime(t *testing.T) {
	for _, c := range []struct {
		t, s int64
		ns   uint64
	}{{0, 0, 0}, {1, 0, 1}, {1e9, 1, 0}, {-1, -1, 999999999}, {-1e9, -1, 0}, {-1500000000, -2, 500000000}} {
		if s, ns := splitTime(c.t); s != c.s || ns != c.ns {
			t.Errorf("splitTime(%d) = %d, %d; want %d, %d", c.t, s, ns, c.s, c.ns)
		}
	}
}
