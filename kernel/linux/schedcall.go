package linux

import "github.com/firstlight-boot/firstlight/kernel/vfs"

// Scheduling policies (include/uapi/linux/sched.h). They are kept and told, as nice values are, but all threads are served
// alike: with one program there is nothing to favour it over.
const (
	schedOther       = 0
	schedFIFO        = 1
	schedRR          = 2
	schedBatch       = 3
	schedIdle        = 5
	schedDeadline    = 6
	schedResetOnFork = 1 << 30
	maxPriority      = 99
)

// priorities returns the priorities that a policy knows.
func priorities(policy uint64) (low, high uint32, ok bool) {
	switch policy {
	case schedOther, schedBatch, schedIdle, schedDeadline:
		return 0, 0, true
	case schedFIFO, schedRR:
		return 1, maxPriority, true
	}
	return 0, 0, false
}

// threadOf returns the thread of a number, the calling one for 0.
func (p *process) threadOf(t *thread, tid uint64) *thread {
	if int32(tid) == 0 {
		return t
	}
	return p.byTID(int(int32(tid)))
}

// schedPriority is sched_get_priority_max and _min.
func schedPriority(policy uint64, highest bool) int64 {
	low, high, ok := priorities(policy)
	switch {
	case !ok:
		return -int64(vfs.EINVAL)
	case highest:
		return int64(high)
	}
	return int64(low)
}

// schedSet is sched_setscheduler, and sched_setparam, which keeps the policy.
func (p *process) schedSet(t *thread, tid, policy, param uint64, keep bool) int64 {
	if param == 0 || int32(tid) < 0 {
		return -int64(vfs.EINVAL)
	}
	priority, ok := p.mm.get32(param)
	if !ok {
		return -int64(vfs.EFAULT)
	}
	to := p.threadOf(t, tid)
	if to == nil {
		return -int64(vfs.ESRCH)
	}
	if keep {
		policy = uint64(to.policy)
	}
	low, high, ok := priorities(uint64(uint32(policy) &^ schedResetOnFork))
	if !ok || policy == schedDeadline || priority < low || priority > high {
		return -int64(vfs.EINVAL)
	}
	to.policy, to.priority = uint32(policy)&^schedResetOnFork, priority
	return 0
}

func (p *process) schedPolicy(t *thread, tid uint64) int64 {
	if int32(tid) < 0 {
		return -int64(vfs.EINVAL)
	}
	if to := p.threadOf(t, tid); to != nil {
		return int64(to.policy)
	}
	return -int64(vfs.ESRCH)
}

func (p *process) schedParam(t *thread, tid, param uint64) int64 {
	if param == 0 || int32(tid) < 0 {
		return -int64(vfs.EINVAL)
	}
	to := p.threadOf(t, tid)
	if to == nil {
		return -int64(vfs.ESRCH)
	}
	if !p.mm.put32(param, to.priority) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (p *process) schedInterval(t *thread, tid, addr uint64) int64 {
	if int32(tid) < 0 {
		return -int64(vfs.EINVAL)
	}
	to := p.threadOf(t, tid)
	if to == nil {
		return -int64(vfs.ESRCH)
	}
	interval := uint64(timeSlice)
	if to.policy == schedFIFO {
		interval = 0
	}
	if !p.putTime(addr, interval) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

// niceOf returns the thread that getpriority and setpriority mean; a process group or a user is the whole program.
func (p *process) niceOf(t *thread, which, who uint64) (to *thread, all bool, err vfs.Errno) {
	const ofProcess, ofGroup, ofUser = 0, 1, 2
	switch which {
	case ofProcess:
		if to = p.threadOf(t, who); to == nil {
			return nil, false, vfs.ESRCH
		}
		return to, false, 0
	case ofGroup:
		if who = uint64(uint32(who)); who != 0 && who != thePID {
			return nil, false, vfs.ESRCH
		}
		return t, true, 0
	case ofUser:
		if uint32(who) != 0 {
			return nil, false, vfs.ESRCH
		}
		return t, true, 0
	}
	return nil, false, vfs.EINVAL
}

// getpriority answers with 20 less the nice value, so that no result is an error.
func (p *process) getpriority(t *thread, which, who uint64) int64 {
	to, _, err := p.niceOf(t, which, who)
	if err != 0 {
		return -int64(err)
	}
	return 20 - int64(to.nice)
}

func (p *process) setpriority(t *thread, which, who, nice uint64) int64 {
	to, all, err := p.niceOf(t, which, who)
	if err != 0 {
		return -int64(err)
	}
	n := max(-20, min(int32(nice), 19))
	to.nice = n
	if all {
		o := p.threads
		for range p.numTh {
			o.nice = n
			o = o.next
		}
	}
	return 0
}
