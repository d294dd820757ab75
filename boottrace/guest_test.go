package boottrace

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// stream is what a guest writes: two marks, a named one, one that nobody knows, an empty name, and the end.
const stream = "\x01\x04\x07\x09listening\x7b\x07\x00\x06\x01\x2a"

func TestMarkStream(t *testing.T) {
	want := MarkStream{
		Marks: []Mark{{ID: 1}, {ID: 4}, {ID: 7, Name: "listening"}, {ID: 123}, {ID: 7}, {ID: 6}},
		First: []int{0, 1, 2, 13, 14, 16},
		End:   &End{How: 1, Code: 42},
	}
	// However the host's reads cut the stream, the marks are the same, and each has the time of its first byte.
	for chunk := 1; chunk <= len(stream); chunk++ {
		var s MarkStream
		var done []Mark
		for off := 0; off < len(stream); off += chunk {
			done = append(done, s.Write(int64(off+1), []byte(stream[off:min(off+chunk, len(stream))]))...)
		}
		for i, m := range s.Marks {
			if at := int64(s.First[i]/chunk*chunk + 1); m.HostNanos != at {
				t.Errorf("chunks of %d: mark %d has time %d, want %d", chunk, i, m.HostNanos, at)
			}
			s.Marks[i].HostNanos, done[i].HostNanos = 0, 0
		}
		if diff := cmp.Diff(want.Marks, s.Marks); diff != "" || !cmp.Equal(want.First, s.First) || !cmp.Equal(want.End, s.End) {
			t.Errorf("chunks of %d: first bytes %v, end %v, marks (-want +got):\n%s", chunk, s.First, s.End, diff)
		}
		if !cmp.Equal(done, s.Marks) {
			t.Errorf("chunks of %d: Write returned other marks than it kept: %v", chunk, done)
		}
	}
	labels := []string{"entry", "app", "listening", "booted", "", "end"}
	for i, m := range want.Marks {
		if m.Label() != labels[i] {
			t.Errorf("mark %d is called %q, want %q", i, m.Label(), labels[i])
		}
	}

	var cut MarkStream
	if done := cut.Write(1, []byte("\x01\x07\x09list")); len(done) != 1 || len(cut.Marks) != 1 || cut.End != nil {
		t.Errorf("a stream that ends inside a mark: %v", cut)
	}
	var many MarkStream
	if done := many.Write(1, bytes.Repeat([]byte{1}, 3*MaxMarks)); len(done) != 3*MaxMarks || len(many.Marks) != MaxMarks {
		t.Errorf("%d marks: %d returned, %d kept", 3*MaxMarks, len(done), len(many.Marks))
	}
}

func FuzzMarkStream(f *testing.F) {
	f.Add([]byte(stream), 3)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		var whole, parts MarkStream
		whole.Write(1, data)
		cut = max(0, min(cut, len(data)))
		parts.Write(1, data[:cut])
		parts.Write(1, data[cut:])
		if diff := cmp.Diff(whole.Marks, parts.Marks); diff != "" {
			t.Errorf("cut at %d (-whole +parts):\n%s", cut, diff)
		}
		run := Run{Kind: Timed, Until: UntilExit, Marks: whole.Marks, End: whole.End}
		if err := run.checkValid(); err != nil {
			t.Errorf("the marks make no valid run: %v", err)
		}
	})
}

// page returns a boot record with n marks.
func page(n uint32, marks ...uint64) []byte {
	p := make([]byte, abi.RecordSize)
	le := binary.LittleEndian
	copy(p, abi.RecordMagic)
	le.PutUint32(p[abi.RecNumMarks:], n)
	for i, field := range []int{abi.RecEntryTSC, abi.RecTSCHz, abi.RecPages, abi.RecPagesFree, abi.RecDiskRequests, abi.RecDiskBytes} {
		le.PutUint64(p[field:], uint64(i+1))
	}
	le.PutUint64(p[abi.RecOwners+8*abi.OwnHeap:], 7)
	le.PutUint64(p[abi.RecOwners+8*abi.OwnPipes:], 8)
	for i, v := range marks {
		le.PutUint64(p[abi.RecMarks+8*i:], v)
	}
	return p
}

func TestRecord(t *testing.T) {
	p := page(2, abi.MarkEntry, 100, abi.MarkApp, 200)
	got, err := ParseRecord(p)
	want := &Record{
		Guest: Guest{EntryTSC: 1, TSCHz: 2, Pages: 3, PagesFree: 4, DiskRequests: 5, DiskBytes: 6, Owners: []OwnedPages{{"kernel heap", 7}, {"pipes", 8}}},
		Marks: []Mark{{ID: abi.MarkEntry, TSC: 100}, {ID: abi.MarkApp, TSC: 200}},
	}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("record: %v, (-want +got):\n%s", err, cmp.Diff(want, got))
	}
	binary.LittleEndian.PutUint32(p[abi.RecHow:], abi.EndKilled)
	binary.LittleEndian.PutUint32(p[abi.RecCode:], 11)
	if got, err := ParseRecord(p); err != nil || got.End == nil || *got.End != (End{abi.EndKilled, 11}) {
		t.Errorf("end: %+v, %v", got, err)
	}
	if got, err := ParseRecord(page(1 << 31)); err != nil || len(got.Marks) != abi.RecMaxMarks {
		t.Errorf("a record that says it has 2^31 marks: %v", err)
	}
	for name, bad := range map[string][]byte{"short": p[:100], "empty": nil, "no magic": make([]byte, abi.RecordSize)} {
		if _, err := ParseRecord(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(page(2, abi.MarkEntry, 100, abi.MarkApp, 200))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRecord(data)
		if err != nil {
			return
		}
		run := Run{Kind: Timed, Until: UntilExit, ReadyNanos: 1e9, Marks: []Mark{{ID: 1, HostNanos: 5e6}, {ID: 4, HostNanos: 9e6}}}
		run.SetRecord(r)
		run.SetReady(1e9)
		checkPhases(t, &Recording{Runs: []Run{run}})
	})
}

func TestSetRecord(t *testing.T) {
	r := &Record{Marks: []Mark{{ID: 1, TSC: 10}, {ID: 7, TSC: 20}, {ID: 9, TSC: 30}, {ID: 7, TSC: 40}}, End: &End{How: 1}}
	run := Run{Marks: []Mark{{ID: 1}, {ID: 2}, {ID: 7, Name: "a"}, {ID: 7, Name: "b"}}}
	run.SetRecord(r)
	if want := []Mark{{ID: 1, TSC: 10}, {ID: 2}, {ID: 7, Name: "a", TSC: 20}, {ID: 7, Name: "b", TSC: 40}}; !cmp.Equal(run.Marks, want) {
		t.Errorf("marks (-want +got):\n%s", cmp.Diff(want, run.Marks))
	}
	if run.End == nil || run.Guest == nil {
		t.Errorf("end %v, guest %v", run.End, run.Guest)
	}
	unseen := Run{}
	unseen.SetRecord(r)
	if !cmp.Equal(unseen.Marks, r.Marks) {
		t.Errorf("a run whose marks the host did not see has %v", unseen.Marks)
	}
}

func TestEnd(t *testing.T) {
	for _, tt := range []struct {
		end    End
		text   string
		code   int
		ok     bool
		failed bool
	}{
		{End{abi.EndExited, 0}, "the app exited with 0", 0, true, false},
		{End{abi.EndExited, 7}, "the app exited with 7", 7, true, true},
		{End{abi.EndKilled, 11}, "the app was killed by SIGSEGV", 139, true, true},
		{End{abi.EndKilled, 34}, "the app was killed by signal 34", 162, true, true},
		{End{abi.EndPanic, 0}, "the kernel panicked", 0, false, true},
		{End{abi.EndNotStart, 2}, "the app could not be started: no such file (ENOENT)", 0, false, true},
		{End{abi.EndNotStart, 99}, "the app could not be started: error 99", 0, false, true},
		{End{9, 1}, "the boot ended in a way that is not known here (9, 1)", 0, false, true},
	} {
		code, ok := tt.end.ExitCode()
		if tt.end.String() != tt.text || code != tt.code || ok != tt.ok || tt.end.Failed() != tt.failed {
			t.Errorf("%+v: %q, exit code %d %v, failed %v", tt.end, tt.end.String(), code, ok, tt.end.Failed())
		}
	}
}
