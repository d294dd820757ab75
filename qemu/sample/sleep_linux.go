package sample

import (
	"time"

	"golang.org/x/sys/unix"
)

// nap sleeps for a time that the runtime's timers would round up to whole milliseconds, as epoll_wait has them.
func nap(d time.Duration) {
	if d > 0 {
		ts := unix.NsecToTimespec(d.Nanoseconds())
		_ = unix.Nanosleep(&ts, nil) // a signal makes it shorter
	}
}
