package bootprof

import (
	"fmt"
	"io"
	"time"
)

// teller tells the user how things go, on standard error.
type teller struct {
	w        io.Writer
	terminal bool
	quiet    bool
	verbose  bool
	shown    bool // a line of progress is on the terminal
	last     time.Time
}

// logEvery is how often progress is told where there is no terminal.
const logEvery = 15 * time.Second

// progress replaces the line of progress, or adds one now and then where there is no terminal. It is called between boots only.
func (t *teller) progress(format string, args ...any) {
	now := time.Now()
	if t.last.IsZero() {
		t.last = now
	}
	switch {
	case t.quiet:
	case t.terminal:
		fmt.Fprintf(t.w, "\r\x1b[K"+format, args...)
		t.shown = true
	case now.Sub(t.last) >= logEvery:
		fmt.Fprintf(t.w, format+"\n", args...)
		t.last = now
	}
}

// clear takes the line of progress away.
func (t *teller) clear() {
	if t.shown {
		fmt.Fprint(t.w, "\r\x1b[K")
		t.shown = false
	}
}

func (t *teller) note(format string, args ...any) {
	if !t.quiet {
		t.clear()
		fmt.Fprintf(t.w, "note: "+format+"\n", args...)
	}
}

func (t *teller) detail(format string, args ...any) {
	if t.verbose {
		t.clear()
		fmt.Fprintf(t.w, format+"\n", args...)
	}
}

// pace tells how long a series will take by how long it took so far.
type pace struct {
	began time.Time
	all   int
}

func newPace(all int) pace { return pace{time.Now(), all} }

// left says in words for a line of progress how much time is left when so many are done; nothing for less than two seconds.
func (p pace) left(done int) string { return leftText(time.Since(p.began), done, p.all) }

func leftText(elapsed time.Duration, done, all int) string {
	if done == 0 {
		return ""
	}
	left := time.Duration(float64(elapsed) / float64(done) * float64(all-done))
	switch {
	case left < 2*time.Second:
		return ""
	case left < 2*time.Minute:
		return fmt.Sprintf(", about %d s left", int(left.Seconds()+0.5))
	default:
		return fmt.Sprintf(", about %d min left", int(left.Minutes()+0.5))
	}
}
