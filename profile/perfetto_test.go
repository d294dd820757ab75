package profile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/boottrace/tracetest"
)

// readTrace reads a trace as viewers do, and checks what they need: the keys of every event by its kind, and spans of a thread that
// lie either one within the other or apart.
func readTrace(t testing.TB, data []byte) []traceEvent {
	t.Helper()
	var file struct {
		DisplayTimeUnit string
		OtherData       map[string]string
		TraceEvents     []map[string]json.RawMessage
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil || file.DisplayTimeUnit != "ms" {
		t.Fatalf("%v, unit %q", err, file.DisplayTimeUnit)
	}
	type track struct{ pid, tid int }
	threads := make(map[track][]traceEvent)
	named := make(map[track]bool)
	var all []traceEvent
	for _, raw := range file.TraceEvents {
		b, _ := json.Marshal(raw)
		var e traceEvent
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		for _, key := range map[string][]string{
			"X": {"name", "cat", "ts", "dur", "pid", "tid"}, "i": {"name", "cat", "ts", "pid", "tid", "s"}, "C": {"name", "ts", "pid", "args"}, "M": {"name", "pid", "args"},
		}[e.Phase] {
			if raw[key] == nil {
				t.Fatalf("an event %s has no %s: %s", e.Phase, key, b)
			}
		}
		switch e.Phase {
		case "X":
			threads[track{e.PID, e.TID}] = append(threads[track{e.PID, e.TID}], e)
			if *e.Dur < 0 {
				t.Fatalf("%s takes %v", e.Name, *e.Dur)
			}
		case "M":
			named[track{e.PID, e.TID}] = true
		case "i", "C":
		default:
			t.Fatalf("an event of kind %q", e.Phase)
		}
		if e.TS < 0 {
			t.Fatalf("%s at %v", e.Name, e.TS)
		}
		all = append(all, e)
	}
	nanos := func(micros float64) int64 { return round(micros * 1e3) }
	for at, spans := range threads {
		if !named[at] {
			t.Errorf("thread %v has no name", at)
		}
		slices.SortStableFunc(spans, func(a, b traceEvent) int {
			return cmp.Or(cmp.Compare(nanos(a.TS), nanos(b.TS)), cmp.Compare(*b.Dur, *a.Dur))
		})
		var open []int64 // when the spans end that are being executed
		for _, s := range spans {
			from, to := nanos(s.TS), nanos(s.TS)+nanos(*s.Dur)
			for len(open) > 0 && open[len(open)-1] <= from {
				open = open[:len(open)-1]
			}
			if len(open) > 0 && to > open[len(open)-1] {
				t.Fatalf("thread %v: %s from %d to %d ends after its caller, at %d", at, s.Name, from, to, open[len(open)-1])
			}
			open = append(open, to)
		}
	}
	return all
}

func TestTrace(t *testing.T) {
	r := profiled()
	var b bytes.Buffer
	if err := WriteTrace(&b, r, r.Exact); err != nil {
		t.Fatal(err)
	}
	golden(t, "trace.json", b.Bytes())
	kinds := make(map[string]int)
	for _, e := range readTrace(t, b.Bytes()) {
		kinds[e.Phase+" "+e.Cat]++
	}
	for kind, want := range map[string]int{"X phase": 4 + 3*4 + 3, "X step": 3, "i mark": 6, "X disk": 5, "C ": 2, "X call": 5} {
		if kinds[kind] != want {
			t.Errorf("%d events %s, want %d", kinds[kind], kind, want)
		}
	}
	for name, r := range recordings() {
		b.Reset()
		if err := WriteTrace(&b, r, nil); err != nil {
			t.Fatal(err)
		}
		readTrace(t, b.Bytes())
		if err := WriteTrace(failingWriter{}, r, nil); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: a writer that fails: %v", name, err)
		}
	}
}

func TestTraceOfMany(t *testing.T) {
	p := tracetest.Profile(60_000)
	for range 2 {
		var a, b bytes.Buffer
		if err := errors.Join(WriteTrace(&a, recording(), p), WriteTrace(&b, recording(), p)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Error("the same profile gave different traces")
		}
		calls, least := 0, 0.0
		for _, e := range readTrace(t, a.Bytes()) {
			if e.Cat == "call" {
				calls++
				least = max(least, e.TS+*e.Dur)
			}
		}
		if calls != MaxSpans || least > float64(p.Instructions())/1e3 {
			t.Errorf("%d spans to %v µs, want %d to %v at most", calls, least, MaxSpans, float64(p.Instructions())/1e3)
		}
		// In no order of time, and with first calls anywhere, they must still fit.
		p.Kind = boottrace.Sampled
		for i := range p.Samples {
			p.Samples[i].Count = p.Samples[i].Instructions
		}
		for i := range p.Stacks {
			p.Stacks[i].First = uint64(i*7919) % 1_000_000
		}
	}
}
