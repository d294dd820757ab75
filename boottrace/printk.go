package boottrace

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Message is a line on the console with a time by the guest's own clock.
type Message struct {
	Offset     int   `json:"offset"`            // of the line, in the run's Output
	GuestNanos int64 `json:"guest_ns"`          // since a zero of the guest's own
	HostNanos  int64 `json:"host_ns,omitempty"` // when the host saw it, since t0; 0 if it tells of something earlier
}

// MaxMessages bounds the messages of one run.
const MaxMessages = 4096

// SetMessages finds the messages in the run's output. arrived tells when the host saw the byte at an offset of it.
func (run *Run) SetMessages(arrived func(offset int) int64) {
	run.Messages = nil
	for off := 0; off < len(run.Output) && len(run.Messages) < MaxMessages; {
		line, _, _ := bytes.Cut(run.Output[off:], []byte("\n"))
		text := string(bytes.TrimRight(line, "\r"))
		m := Message{Offset: off}
		if nanos, _, ok := cutPrintk(text); ok {
			m.GuestNanos, m.HostNanos = nanos, arrived(off)
			run.Messages = append(run.Messages, m)
		} else if nanos, _, ok := cutChart(text); ok {
			m.GuestNanos = nanos
			run.Messages = append(run.Messages, m)
		}
		off += len(line) + 1
	}
}

// cutPrintk splits a line that Linux's printk wrote with its time (CONFIG_PRINTK_TIME, kernel/printk/printk.c, print_time), perhaps
// with a level before it and a caller behind it: "<6>[    0.123456][    T1] text".
func cutPrintk(line string) (nanos int64, text string, ok bool) {
	if len(line) > 3 && line[0] == '<' && line[1] >= '0' && line[1] <= '7' && line[2] == '>' {
		line = line[3:]
	}
	stamp, text, ok := strings.Cut(line, "]")
	stamp, open := strings.CutPrefix(stamp, "[")
	secs, micros, dot := strings.Cut(strings.TrimLeft(stamp, " "), ".")
	if !ok || !open || !dot || len(micros) != 6 {
		return 0, "", false
	}
	s, err1 := strconv.ParseUint(secs, 10, 32)
	us, err2 := strconv.ParseUint(micros, 10, 32)
	if err1 != nil || err2 != nil || s >= maxNanos/1_000_000_000 {
		return 0, "", false
	}
	if caller, rest, ok := strings.Cut(text, "]"); ok && strings.HasPrefix(caller, "[") {
		switch c := strings.TrimLeft(caller[1:], " "); {
		case c != "" && (c[0] == 'T' || c[0] == 'C') && strings.Trim(c[1:], "0123456789") == "":
			text = rest
		}
	}
	return int64(s)*1e9 + int64(us)*1e3, strings.TrimPrefix(text, " "), true
}

// chartTotal is the event that OSv's line without a chart tells of.
const chartTotal = "Total time"

// cutChart splits a line of the chart that OSv prints with --bootchart, or the line that it prints without (core/chart.cc:
// print_one_time, print_total_time): "\tdrivers loaded: 12.34ms, (+0.56ms)", "Booted up in 12.34 ms".
func cutChart(line string) (nanos int64, event string, ok bool) {
	if rest, ok := strings.CutPrefix(line, "Booted up in "); ok {
		ms, ok := strings.CutSuffix(rest, " ms")
		nanos, ok2 := millisOf(ms)
		return nanos, chartTotal, ok && ok2
	}
	rest, ok1 := strings.CutPrefix(line, "\t")
	rest, ok2 := strings.CutSuffix(rest, "ms)")
	rest, since, ok3 := strings.Cut(rest, "ms, (+")
	at := strings.LastIndex(rest, ": ")
	if !ok1 || !ok2 || !ok3 || at <= 0 {
		return 0, "", false
	}
	nanos, ok1 = millisOf(rest[at+2:])
	_, ok2 = millisOf(since)
	return nanos, rest[:at], ok1 && ok2
}

// millisOf reads milliseconds with two decimals.
func millisOf(s string) (nanos int64, ok bool) {
	whole, hundredths, dot := strings.Cut(s, ".")
	ms, err1 := strconv.ParseUint(whole, 10, 40)
	frac, err2 := strconv.ParseUint(hundredths, 10, 8)
	if !dot || len(hundredths) != 2 || err1 != nil || err2 != nil || ms >= maxNanos/1_000_000 {
		return 0, false
	}
	return int64(ms)*1e6 + int64(frac)*1e4, true
}

// Told is a message beside what the host knows of the same instant.
type Told struct {
	Text       string
	GuestNanos int64  // by the guest's clock
	HostNanos  int64  // when the host saw it on the console, since t0; 0 if it was printed later than it happened
	Mark       string // the mark that is the same instant; "" if there is none
	MarkNanos  int64  // its time, since t0
}

// Told returns the messages of a run, and the marks that they speak of.
func (run *Run) Told() []Told {
	marks := make(map[string]int64)
	for _, m := range run.Marks {
		if _, ok := marks[m.Label()]; !ok {
			marks[m.Label()] = m.HostNanos
		}
	}
	all := make([]Told, 0, len(run.Messages))
	for _, m := range run.Messages {
		if m.Offset >= len(run.Output) {
			continue
		}
		line, _, _ := bytes.Cut(run.Output[m.Offset:], []byte("\n"))
		text := strings.ToValidUTF8(strings.TrimRight(string(line), "\r"), "\ufffd")
		t := Told{Text: strings.TrimSpace(text), GuestNanos: m.GuestNanos, HostNanos: m.HostNanos}
		if _, rest, ok := cutPrintk(text); ok {
			t.Text, t.Mark = rest, printkMark(rest)
		} else if _, event, ok := cutChart(text); ok {
			t.Text, t.Mark = event, chartMarks[event]
		}
		if t.MarkNanos = marks[t.Mark]; t.MarkNanos == 0 {
			t.Mark = ""
		}
		all = append(all, t)
	}
	return all
}

// chartMarks are the marks of an OSv kernel at the same instant as the events of its chart, to some instructions.
var chartMarks = map[string]string{".init functions": "main", chartTotal: markNames[MarkOSv]}

// printkMark is the mark at whose instant Linux prints a text.
func printkMark(text string) string {
	if rest, ok := strings.CutPrefix(text, "calling  "); ok { // initcall_debug
		name, _, _ := strings.Cut(rest, "+0x")
		return InitcallPrefix + name
	}
	if strings.HasPrefix(text, "Run ") && strings.HasSuffix(text, " as init process") {
		return "run_init_process"
	}
	return ""
}

// GuestZero returns when the guest's clock was zero, in nanoseconds since t0, by the messages that tell of a mark, at the median; or
// else by the message that came through to the host soonest. Until Linux has a clock its messages say 0; they are left out.
func GuestZero(told []Told) (nanos int64, ok bool) {
	var zeros []int64
	soonest := int64(math.MaxInt64)
	for _, t := range told {
		if t.GuestNanos == 0 {
			continue
		}
		if t.Mark != "" {
			zeros = append(zeros, t.MarkNanos-t.GuestNanos)
		}
		if t.HostNanos > 0 {
			soonest = min(soonest, t.HostNanos-t.GuestNanos)
		}
	}
	if len(zeros) > 0 {
		slices.Sort(zeros)
		return zeros[len(zeros)/2], true
	}
	return soonest, soonest != math.MaxInt64
}

// checkMessages says what in a run's messages cannot be.
func (run *Run) checkMessages() error {
	if len(run.Messages) > MaxMessages {
		return fmt.Errorf("%d messages; at most %d are kept", len(run.Messages), MaxMessages)
	}
	for i, m := range run.Messages {
		if m.Offset < 0 || m.Offset >= len(run.Output) || m.GuestNanos < 0 || m.GuestNanos > maxNanos || m.HostNanos < 0 || m.HostNanos > maxNanos {
			return fmt.Errorf("message %d: offset %d of %d, guest_ns %d, host_ns %d", i, m.Offset, len(run.Output), m.GuestNanos, m.HostNanos)
		}
	}
	return nil
}
