package linux

import (
	"math/bits"

	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// Signals (include/uapi/asm/signal.h).
const (
	sigQuit    = 3
	sigIll     = 4
	sigTrap    = 5
	sigAbrt    = 6
	sigBus     = 7
	sigFpe     = 8
	sigKill    = 9
	sigSegv    = 11
	sigPipe    = 13
	sigAlrm    = 14
	sigChld    = 17
	sigCont    = 18
	sigStop    = 19
	sigTstp    = 20
	sigTtin    = 21
	sigTtou    = 22
	sigUrg     = 23
	sigXcpu    = 24
	sigXfsz    = 25
	sigVtalrm  = 26
	sigProf    = 27
	sigWinch   = 28
	sigSys     = 31
	firstRT    = 32 // from here on signals queue
	numSignals = 64
)

// Codes of siginfo (include/uapi/asm-generic/siginfo.h).
const (
	siUser       = 0
	siKernel     = 0x80
	siTimer      = -2
	siTkill      = -6
	fpeIntDiv    = 1
	fpeFloatDiv  = 3
	fpeOverflow  = 4
	fpeUnderflow = 5
	fpeInexact   = 6
	fpeInvalid   = 7
	illIllOpn    = 2
	busAdrAln    = 1
	trapTrace    = 2
)

// Flags of sigaction.
const (
	saSiginfo   = 0x4
	saRestorer  = 0x04000000
	saOnStack   = 0x08000000
	saRestart   = 0x10000000
	saNoDefer   = 0x40000000
	saResetHand = 0x80000000
	saKnown     = 0x7 | 0x800 | saRestorer | saOnStack | saRestart | saNoDefer | saResetHand // what oldact tells

	sigDfl = 0
	sigIgn = 1
)

// Results of a call that a signal interrupted, which never reach the program (include/linux/errno.h): made again if the
// handler has SA_RESTART or there is none; made again always; made again if there is none; gone on with, by restart_syscall, if there is none.
const (
	eRestartSys    vfs.Errno = 512
	eRestartNoIntr vfs.Errno = 513
	eRestartNoHand vfs.Errno = 514
	eRestartBlock  vfs.Errno = 516
)

// action is what the program wants done with a signal.
type action struct {
	handler, flags, restorer, mask uint64
}

// sigInfo is a signal on its way: a siginfo_t, whose fields above the code are a union of 32 bytes.
type sigInfo struct {
	sig, code int
	errno     uint32 // what the sender put there
	fields    [4]uint64
	fault     bool        // of the thread's own doing: the exception's vector and error code belong to it
	timer     *posixTimer // that expired: how often is known when the signal is delivered
}

const sigInfoSize = 128

// put lays out a siginfo_t.
func (s *sigInfo) put(b []byte) {
	clear(b[:sigInfoSize])
	set32(b, uint32(s.sig))
	set32(b[4:], s.errno)
	set32(b[8:], uint32(s.code))
	for i, v := range s.fields {
		set64(b[16+8*i:], v)
	}
}

// sentBy is the union of a signal that a process sent: its pid, and user 0.
var sentBy = [4]uint64{thePID}

func bit(sig int) uint64 { return 1 << (sig - 1) }

const (
	// unblockable signals cannot be masked, caught or ignored.
	unblockable = 1<<(sigKill-1) | 1<<(sigStop-1)
	// stopping signals have no effect: nothing could continue the program.
	stopping = 1<<(sigStop-1) | 1<<(sigTstp-1) | 1<<(sigTtin-1) | 1<<(sigTtou-1)
	// harmless signals do nothing unless they are caught.
	harmless = stopping | 1<<(sigChld-1) | 1<<(sigCont-1) | 1<<(sigUrg-1) | 1<<(sigWinch-1)
	// dumping signals leave a core elsewhere, and a line on the console here.
	dumping = synchronous | 1<<(sigQuit-1) | 1<<(sigAbrt-1) | 1<<(sigXcpu-1) | 1<<(sigXfsz-1)
	// synchronous signals are taken before all others.
	synchronous = 1<<(sigIll-1) | 1<<(sigTrap-1) | 1<<(sigBus-1) | 1<<(sigFpe-1) | 1<<(sigSegv-1) | 1<<(sigSys-1)
)

// ignored reports whether the signal, delivered now, would have no effect.
func (p *process) ignored(sig int) bool {
	h := p.actions[sig].handler
	return h == sigIgn || h == sigDfl && bit(sig)&harmless != 0
}

// sigQueue holds signals that are pending, in the order in which they came; set is which.
type sigQueue struct {
	set  uint64
	list []sigInfo
}

// maxPending bounds the queued signals of all threads together: RLIMIT_SIGPENDING.
const maxPending = 4096

// queue adds a signal; one below firstRT is pending once at most, besides those of timers. Without room a real-time signal with a value of its own is
// refused; any other keeps its number, and loses what it says besides.
func (p *process) queue(q *sigQueue, s sigInfo) bool {
	if s.sig < firstRT && q.set&bit(s.sig) != 0 && s.timer == nil {
		return true
	}
	if p.queued >= p.limits[rlimitSigpending][0] && !(s.sig < firstRT && s.code >= 0) && s.timer == nil {
		if s.sig >= firstRT && s.code != siUser {
			return false
		}
		q.set |= bit(s.sig)
		return true
	}
	q.set |= bit(s.sig)
	q.list = append(q.list, s)
	p.queued++
	return true
}

// take removes the next signal of set: a synchronous one, else the lowest number; of one number the oldest.
func (p *process) take(q *sigQueue, set uint64) (s sigInfo, ok bool) {
	set &= q.set
	if set == 0 {
		return s, false
	}
	if set&synchronous != 0 {
		set &= synchronous
	}
	sig := lowest(set)
	found, more := -1, false
	for i := range q.list {
		if q.list[i].sig != sig {
			continue
		}
		if found >= 0 {
			more = true
			break
		}
		found = i
	}
	if !more {
		q.set &^= bit(sig)
	}
	if found < 0 {
		return sigInfo{sig: sig, code: siUser}, true
	}
	s = q.list[found]
	if found == 0 {
		q.list = q.list[1:] // mostly, and of thousands
	} else {
		q.list = append(q.list[:found], q.list[found+1:]...)
	}
	p.queued--
	if s.timer != nil {
		s.timer.taken(&s)
	}
	return s, true
}

// lowest returns the lowest signal of a set that is not empty.
func lowest(set uint64) int { return bits.TrailingZeros64(set) + 1 }

// discard drops what is pending of set.
func (p *process) discard(set uint64) {
	p.drop(&p.pending, set)
	t := p.threads
	for range p.numTh {
		p.drop(&t.pending, set)
		t = t.next
	}
}

func (p *process) drop(q *sigQueue, set uint64) {
	if q.set&set == 0 {
		return
	}
	kept := q.list[:0]
	for _, s := range q.list {
		if bit(s.sig)&set == 0 {
			kept = append(kept, s)
		} else if p.queued--; s.timer != nil {
			s.timer.queued = false
		}
	}
	q.list = kept
	q.set &^= set
}

// needless reports whether a signal that is sent can be forgotten at once, which t would take: it is ignored and t does
// not hold it back.
func (p *process) needless(t *thread, sig int) bool {
	return p.ignored(sig) && (t.mask|t.waitSet)&bit(sig) == 0
}

// post sends a signal to the process, and reports whether there was room for it.
func (p *process) post(s sigInfo) bool {
	if s.sig == sigCont {
		p.discard(stopping)
	} else if bit(s.sig)&stopping != 0 {
		p.discard(bit(sigCont))
	}
	if p.needless(&p.leader, s.sig) {
		return true
	}
	if !p.queue(&p.pending, s) {
		return false
	}
	p.assign(bit(s.sig))
	p.signalEvent()
	return true
}

// postTo sends a signal to one thread.
func (p *process) postTo(t *thread, s sigInfo) bool {
	if p.needless(t, s.sig) {
		return true
	}
	if !p.queue(&t.pending, s) {
		return false
	}
	if t.takes(bit(s.sig)) {
		p.notify(t)
	}
	p.signalEvent()
	return true
}

// takes reports whether t would take a signal of set that is pending.
func (t *thread) takes(set uint64) bool { return set&^(t.mask&^t.waitSet) != 0 && t.state != dead }

// assign finds the thread that takes a signal of set, which is pending for the process: the first thread if it does not hold
// it back, else the next in turn that has none to take yet (Linux: complete_signal).
func (p *process) assign(set uint64) {
	wants := func(t *thread) bool { return t.takes(set) && (t == p.current || !t.notice) }
	if wants(&p.leader) {
		p.notify(&p.leader)
		return
	}
	if p.turn == nil || p.turn.state == dead {
		p.turn = p.threads
	}
	for range p.numTh {
		t := p.turn
		if wants(t) {
			p.notify(t)
			return
		}
		p.turn = t.next
	}
}

// notify makes t look for signals before it goes on.
func (p *process) notify(t *thread) {
	t.notice = true
	if t.state == blocked {
		p.interrupt(t)
	} else if t.on != 0 {
		ring0.Kick(t.on)
	}
}

// setMask changes what t holds back. Signals of the process that t was to take and now does not go to another.
func (p *process) setMask(t *thread, mask uint64) {
	mask &^= unblockable
	more := mask &^ t.mask
	t.mask = mask
	if t.notice && more&p.pending.set != 0 && p.numTh > 1 {
		p.assign(more & p.pending.set)
	}
	t.notice = t.takes(t.pending.set | p.pending.set)
}

// interrupt ends the call that t is blocked in.
func (p *process) interrupt(t *thread) {
	if t.onSignal == eRestartBlock {
		t.resume = resumption{t.deadline, t.remaining, t.futexAddr, t.futexValue, t.futexBits, t.private, t.sleep}
	}
	if m := t.sleep; m != nil {
		if t.remaining != 0 {
			p.putTime(t.remaining, m.left(m.now()))
			t.remaining = 0
		}
		p.awake(t)
	}
	if t.futex.at != 0 {
		p.unqueueFutex(t)
	}
	if t.remaining != 0 {
		p.putRemaining(t, t.deadline)
	}
	if t.waitSet != 0 { // the call is made again and finds the signal
		p.ready(t, 0)
		return
	}
	t.retry = false
	if t.progress != 0 {
		p.ready(t, int64(t.progress))
		return
	}
	p.ready(t, -int64(t.onSignal))
}

// next takes the next signal of set that is pending for t.
func (p *process) next(t *thread, set uint64) (s sigInfo, ok bool) {
	if s, ok = p.take(&t.pending, set); ok {
		return s, ok
	}
	return p.take(&p.pending, set)
}

// deliver is called before t returns to the program: it makes t go on in the handlers of its signals, the last one's first, and
// ends what a call has left to do.
func (p *process) deliver(t *thread) {
	for t.notice {
		s, ok := p.next(t, ^t.mask)
		if !ok {
			t.notice = false
			break
		}
		if !p.ignored(s.sig) {
			p.handle(t, &s)
		}
	}
	if t.restarts != 0 {
		t.callAgain(t.restarts)
	}
	if t.restoreMask {
		t.restoreMask = false
		p.setMask(t, t.oldMask)
		if t.notice {
			p.deliver(t)
		}
	}
}

// callAgain makes the program repeat its call, or go on with one that sleeps: the instruction is two bytes long.
func (t *thread) callAgain(how vfs.Errno) {
	t.ctx.RIP -= 2
	t.ctx.RAX = t.nr
	if how == eRestartBlock {
		t.ctx.RAX = nrRestart
	}
	t.restarts = 0
}

// force delivers a fault, which can be neither ignored nor put off.
func (p *process) force(t *thread, sig, code int, addr uint64) {
	s := sigInfo{sig: sig, code: code, fields: [4]uint64{addr}, fault: true}
	if a := &p.actions[sig]; a.handler == sigIgn || t.mask&bit(sig) != 0 {
		*a = action{}
		p.setMask(t, t.mask&^bit(sig))
	}
	p.handle(t, &s)
}

// handle lets t run the handler of s, or ends the program.
func (p *process) handle(t *thread, s *sigInfo) {
	a := p.actions[s.sig]
	if a.handler == sigDfl {
		p.killBy(t, s)
	}
	if t.restarts == eRestartNoIntr || t.restarts == eRestartSys && a.flags&saRestart != 0 {
		t.callAgain(t.restarts)
	} else if t.restarts != 0 {
		t.ctx.RAX = errno(vfs.EINTR)
		t.restarts = 0
	}
	mask := t.mask
	if t.restoreMask {
		mask, t.restoreMask = t.oldMask, false
	}
	if a.flags&saResetHand != 0 {
		p.actions[s.sig].handler = sigDfl
	}
	if a.flags&saRestorer == 0 || !p.pushFrame(t, &a, s, mask) {
		// There is no room for the frame. A handler of SIGSEGV that has a stack of its own may do something about it.
		bad := sigInfo{sig: sigSegv, code: siKernel, fault: true}
		if s.sig == sigSegv {
			p.killBy(t, &bad)
		}
		t.mask = mask
		p.force(t, sigSegv, siKernel, 0)
		return
	}
	mask = t.mask | a.mask
	if a.flags&saNoDefer == 0 {
		mask |= bit(s.sig)
	}
	p.setMask(t, mask)
}

func errno(e vfs.Errno) uint64 { return uint64(-int64(e)) }

// killBy ends the program as the signal's default action does. What would leave a core is told on the console, as no log of
// the program will.
func (p *process) killBy(t *thread, s *sigInfo) {
	if bit(s.sig)&dumping != 0 {
		var l vfs.Text
		l.Str("firstlight: the program is killed by ").Str(signalName(s.sig)).Str(" at 0x").Hex(t.ctx.RIP, 1)
		if s.fault && (s.sig == sigSegv || s.sig == sigBus) {
			l.Str(", address 0x").Hex(s.fields[0], 1)
		}
		l.Str("\n")
		ring0.ConsoleWrite(l)
	}
	p.kill(s.sig)
}

func signalName(sig int) string {
	switch sig {
	case sigQuit:
		return "SIGQUIT"
	case sigIll:
		return "SIGILL"
	case sigTrap:
		return "SIGTRAP"
	case sigAbrt:
		return "SIGABRT"
	case sigBus:
		return "SIGBUS"
	case sigFpe:
		return "SIGFPE"
	case sigSegv:
		return "SIGSEGV"
	}
	var t vfs.Text
	t.Str("signal ").Dec(uint64(sig))
	return string(t)
}
