package linux

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// The layout is what the psABI and the C library's restorer expect: the handler starts as if it had been called, so its
// stack pointer is 8 below a multiple of 16; FXSAVE wants 64 bytes of alignment here; nothing overlaps.
func TestLayFrame(t *testing.T) {
	for _, size := range []uint64{fxSize, fpMost} {
		for sp := uint64(0x7fffffff0000); sp < 0x7fffffff0000+200; sp++ {
			frame, fp := layFrame(sp, size)
			if frame%16 != 8 || fp%64 != 0 || frame+frSize > fp || fp+size > sp || sp-frame > maxFrame(size) {
				t.Fatalf("stack pointer %#x: frame %#x, floating point %#x", sp, frame, fp)
			}
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

// The emulator never raises the exceptions of SSE, so what they become is tested here: the lowest of the flags that are set and
// not masked, as Linux has it.
func TestFloatCode(t *testing.T) {
	const all = 0x3f
	for _, c := range []struct {
		vector          int
		status, control uint16
		want            int
	}{
		{vecSIMD, 1, 0, fpeInvalid}, {vecSIMD, 4, 0, fpeFloatDiv}, {vecSIMD, 8, 0, fpeOverflow}, {vecSIMD, 16, 0, fpeUnderflow},
		{vecSIMD, 2, 0, fpeUnderflow}, {vecSIMD, 32, 0, fpeInexact}, {vecSIMD, all, all &^ 4, fpeFloatDiv},
		{vecSIMD, all, all, siKernel}, {vecSIMD, 4, all, siKernel}, {vecSIMD, 12, all &^ 8, fpeOverflow},
		{vecFloat, 1, 0, fpeInvalid}, {vecFloat, 4, all &^ 4, fpeFloatDiv}, {vecFloat, 8 | 32, 0, fpeOverflow},
		{vecFloat, 32, all &^ 32, fpeInexact}, {vecFloat, 16, 0, fpeUnderflow}, {vecFloat, 0, 0, siKernel},
	} {
		var ctx ring0.UserContext
		if c.vector == vecFloat {
			set16(ctx.FX[0:], c.control)
			set16(ctx.FX[2:], c.status)
		} else {
			set32(ctx.FX[fxMXCSR:], uint32(c.status)|uint32(c.control)<<7)
		}
		if got := floatCode(&ctx, c.vector); got != c.want {
			t.Errorf("vector %d, status %#x, masked %#x: code %d, want %d", c.vector, c.status, c.control, got, c.want)
		}
	}
}

// Signals are taken by kind and number, of one number in the order in which they came.
func TestSigQueue(t *testing.T) {
	var p process
	p.setLimits()
	var q sigQueue
	for i, sig := range []int{40, 12, 34, 10, 12, sigSegv, 34, 64, sigIll} {
		if !p.queue(&q, sigInfo{sig: sig, code: -1, fields: [4]uint64{uint64(i)}}) {
			t.Fatal(i)
		}
	}
	if p.queued != 8 { // 12 came twice
		t.Errorf("%d are queued", p.queued)
	}
	if s, ok := p.take(&q, bit(34)); !ok || s.fields[0] != 2 || q.set&bit(34) == 0 {
		t.Errorf("%+v, %v, %x", s, ok, q.set)
	}
	p.drop(&q, bit(40))
	for _, want := range []sigInfo{{sig: sigIll}, {sig: sigSegv}, {sig: 10}, {sig: 12}, {sig: 34}, {sig: 64}} {
		if s, ok := p.take(&q, ^uint64(0)); !ok || s.sig != want.sig {
			t.Errorf("%+v, want %d", s, want.sig)
		}
	}
	if _, ok := p.take(&q, ^uint64(0)); ok || q.set != 0 || p.queued != 0 || len(q.list) != 0 {
		t.Errorf("left: %+v", q)
	}
	// At the limit real-time signals with a value are refused, what kill sends is known by its number alone.
	p.limits[rlimitSigpending][0] = 1
	for i, c := range []struct {
		s    sigInfo
		room bool
	}{{sigInfo{sig: 40, code: -1}, true}, {sigInfo{sig: 40, code: -1}, false}, {sigInfo{sig: 41, code: siUser}, true}, {sigInfo{sig: 12, code: siUser}, true}, {sigInfo{sig: 13, code: -1}, true}} {
		if got := p.queue(&q, c.s); got != c.room {
			t.Errorf("%d: %v", i, got)
		}
	}
	if q.set != bit(40)|bit(41)|bit(12)|bit(13) || len(q.list) != 2 {
		t.Errorf("%+v", q)
	}
}

func TestAltStack(t *testing.T) {
	var a altStack
	if a.state(5) != ssDisable || a.set(0x1000, 0x800, 0, 5) != 0 || a.state(5) != 0 || a.state(0x1001) != ssOnStack || a.state(0x1800) != ssOnStack || a.state(0x1000) != 0 || a.state(0x1801) != 0 {
		t.Errorf("%+v", a)
	}
	if a.set(0, 0, ssDisable, 0x1400) != vfs.EPERM || a.set(0, minAltStack-1, 0, 0) != vfs.ENOMEM || a.set(0, minAltStack, 3, 0) != vfs.EINVAL || a.size != 0x800 {
		t.Errorf("%+v", a)
	}
	if a.set(0x1000, 0x800, ssAutodisarm|ssOnStack, 5) != 0 || a.state(0x1400) != ssAutodisarm || a.set(1, 1, ssDisable, 0x1400) != 0 || a.state(0) != ssDisable {
		t.Errorf("%+v", a)
	}
}

func TestTimer(t *testing.T) {
	var m timer
	if m.left(5) != 0 {
		t.Error("a timer that is off has something left")
	}
	m.setTimer(100, 50, 20)
	for _, c := range []struct{ now, left uint64 }{{100, 50}, {149, 1}, {150, 20}, {151, 19}, {170, 20}} {
		if got := m.left(c.now); got != c.left {
			t.Errorf("at %d: %d left, want %d", c.now, got, c.left)
		}
	}
	if n := m.forward(150); n != 1 || m.at != 170 {
		t.Errorf("%d times, then %d", n, m.at)
	}
	if n := m.forward(211); n != 3 || m.at != 230 {
		t.Errorf("%d times, then %d", n, m.at)
	}
	m.setTimer(100, 1<<64-1, 0)
	if m.at != 1<<64-1 || m.left(100) != 1<<64-101 {
		t.Errorf("far away: %d", m.at)
	}
	m.setTimer(100, 1, 0)
	if m.left(200) != 1 || m.forward(200) != 1 || m.at != 0 {
		t.Errorf("once: %d", m.at)
	}
}
