package bootprof

import (
	"strings"
	"testing"
	"time"
)

func TestLeft(t *testing.T) {
	for _, tt := range []struct {
		elapsed   time.Duration
		done, all int
		want      string
	}{
		{time.Hour, 0, 10, ""}, {time.Second, 9, 10, ""}, {10 * time.Second, 1, 4, ", about 30 s left"},
		{time.Minute, 1, 4, ", about 3 min left"}, {time.Minute, 4, 4, ""}, {19 * time.Second, 10, 20, ", about 19 s left"},
	} {
		if got := leftText(tt.elapsed, tt.done, tt.all); got != tt.want {
			t.Errorf("%v for %d of %d: %q, want %q", tt.elapsed, tt.done, tt.all, got, tt.want)
		}
	}
}

func TestTeller(t *testing.T) {
	for _, tt := range []struct {
		tell teller
		want string
	}{
		{teller{terminal: true}, "\r\x1b[Kboot 1\r\x1b[Kboot 2\r\x1b[Knote: done\n"},
		{teller{}, "note: done\n"},
		{teller{last: time.Now().Add(-time.Hour)}, "boot 1\nnote: done\n"},
		{teller{terminal: true, quiet: true}, ""},
	} {
		var b strings.Builder
		tt.tell.w = &b
		tt.tell.progress("boot %d", 1)
		tt.tell.progress("boot %d", 2)
		tt.tell.note("done")
		if b.String() != tt.want {
			t.Errorf("%q, want %q", b.String(), tt.want)
		}
	}
}
