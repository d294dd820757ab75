package boottrace

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/firstlight-boot/firstlight/kernel/abi"
)

const ms = 1_000_000 // nanoseconds

// native returns a timed boot of our kernel, on a 2 GHz clock, that wrote its first output after total milliseconds.
func native(total int64) Run {
	return Run{
		Kind: Timed, Until: UntilOutput, ReadyNanos: total * ms, ExitNanos: (total + 10) * ms,
		Marks: []Mark{
			{ID: abi.MarkEntry, HostNanos: 30 * ms, TSC: 20 * ms},
			{ID: abi.MarkMain, HostNanos: 40 * ms, TSC: 40 * ms},
			{ID: abi.MarkRoot, HostNanos: 50 * ms, TSC: 60 * ms},
			{ID: abi.MarkApp, HostNanos: 60 * ms, TSC: 80 * ms},
			{ID: abi.MarkOutput, HostNanos: total * ms, TSC: uint64(total-20) * 2 * ms},
			{ID: abi.MarkEnd, HostNanos: (total + 5) * ms, TSC: uint64(total-15) * 2 * ms},
		},
		Guest:        &Guest{EntryTSC: 20 * ms, TSCHz: 2e9, Pages: 16384, PagesFree: 15000},
		End:          &End{How: abi.EndExited},
		TouchedBytes: 5 << 20,
		Output:       []byte("hello\n\xff"), OutputBytes: 7,
	}
}

func counted() Run {
	r := native(100)
	r.Kind, r.Instructions, r.PSSBytes = Counting, 600_000, 40<<20
	for i, n := range []uint64{5_000, 105_000, 205_000, 405_000, 600_000, 600_500} {
		r.Marks[i].Instructions = n
	}
	return r
}

func sample() *Recording {
	return &Recording{
		Image: "app.img", Flavour: "native", VMM: "QEMU 7.2.22", Accel: "tcg", Machine: "microvm", Firmware: "qboot",
		MemoryBytes: 64 << 20, PrepareNanos: 3 * ms, TimeNanos: 1e18,
		Runs: []Run{native(100), counted(), {Kind: Floor, Until: UntilExit, ReadyNanos: 35 * ms, ExitNanos: 35 * ms}, native(120)},
	}
}

func encode(t testing.TB, r *Recording) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	for name, want := range map[string]*Recording{"empty": {}, "sample": sample()} {
		got, err := Read(bytes.NewReader(encode(t, want)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: recording changed on its way through a file (-want +got):\n%s", name, diff)
		}
	}
	if a, b := encode(t, sample()), encode(t, sample()); !bytes.Equal(a, b) {
		t.Error("the same recording gave different bytes")
	}
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recording.fl")
	if err := os.WriteFile(path, encode(t, sample())[:100], 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path)
	if !errors.Is(err, ErrTruncated) || !strings.Contains(err.Error(), path) {
		t.Errorf("Open of a truncated file: got %v, want an error that names the file and wraps %v", err, ErrTruncated)
	}
}

// TestDamage changes each bit and cuts at each byte.
func TestDamage(t *testing.T) {
	good := encode(t, sample())
	var fe *FormatError
	for i := range good {
		if _, err := Read(bytes.NewReader(good[:i])); !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut to %d bytes: got %v, want %v", i, err, ErrTruncated)
		}
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := Read(bytes.NewReader(bad)); !errors.As(err, &fe) {
				t.Fatalf("bit %d of byte %d changed: got %v, want a *FormatError", bit, i, err)
			}
		}
	}
	if _, err := Read(bytes.NewReader(append(good, 0))); !errors.Is(err, ErrFormat) {
		t.Errorf("a byte after the end: got %v, want %v", err, ErrFormat)
	}
}

// file returns a recording of one section with correct check codes.
func file(version uint32, tag string, rawLen uint64, stored []byte) []byte {
	var h header
	h.setMagic()
	h.setVersion(version)
	h.setCheck(h.sum())
	var s section
	copy(s[:4], tag)
	s.setStored(uint64(len(stored)))
	s.setRawLen(rawLen)
	s.setCheck(s.sum(stored))
	return append(append(h[:], s[:]...), stored...)
}

func TestBadFiles(t *testing.T) {
	section := func(tag, json string) []byte {
		var b bytes.Buffer
		(&encoder{w: &b}).section([4]byte([]byte(tag)), []byte(json))
		return b.Bytes()
	}
	head := file(version, "", 0, nil)[:headerSize]
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, tt := range []struct {
		name string
		data []byte
		want error
	}{
		{"not a recording", []byte("\x7fELF............................"), ErrFormat},
		{"newer version", file(version+1, "END.", 0, nil), ErrUnsupported},
		{"version 0", file(0, "END.", 0, nil), ErrUnsupported},
		{"section of a newer version", file(version, "NEW.", 0, nil), ErrUnsupported},
		{"no boot", file(version, "END.", 0, nil), ErrFormat},
		{"bomb", file(version, "BOOT", maxRaw+1, nil), ErrTooLarge},
		{"impossible ratio", file(version, "BOOT", maxRaw, []byte{1}), ErrTooLarge},
		{"not DEFLATE", file(version, "BOOT", 3, []byte{7, 7, 7}), ErrFormat},
		{"run before boot", cat(head, section("RUN.", `{"kind":"timed"}`)), ErrUnsupported},
		{"not JSON", cat(head, section("BOOT", "hello")), ErrFormat},
		{"two values", cat(head, section("BOOT", "{}{}")), ErrFormat},
		{"unknown field", cat(head, section("BOOT", `{"colour":1}`)), ErrFormat},
		{"unknown kind", cat(head, section("BOOT", "{}"), section("RUN.", `{"kind":"warm"}`)), ErrFormat},
		{"negative time", cat(head, section("BOOT", "{}"), section("RUN.", `{"kind":"timed","ready_ns":-1}`)), ErrFormat},
		{"too many marks", cat(head, section("BOOT", "{}"), section("RUN.", `{"kind":"timed","marks":[`+strings.Repeat(`{},`, MaxMarks)+`{}]}`)), ErrFormat},
	} {
		if _, err := Read(bytes.NewReader(tt.data)); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	// What version 1 wrote is still read.
	first := cat(file(1, "", 0, nil)[:headerSize], section("BOOT", `{"image":"a"}`), section("RUN.", `{"kind":"timed","io":[{"op":"read","disk":0,"offset":1,"length":2}]}`), section("END.", ""))
	if r, err := Read(bytes.NewReader(first)); err != nil || r.Image != "a" || len(r.Runs[0].IO) != 1 {
		t.Errorf("version 1: %+v, %v", r, err)
	}
	skipped := cat(head, section("BOOT", "{}"), section("new.", "whatever"), section("END.", ""))
	if _, err := Read(bytes.NewReader(skipped)); err != nil {
		t.Errorf("an unknown section that may be skipped: %v", err)
	}
}

func TestReaderFails(t *testing.T) {
	want := errors.New("the disk is gone")
	good := encode(t, sample())
	for _, n := range []int{0, 10, 20, 60, len(good)} {
		r := io.MultiReader(bytes.NewReader(good[:n]), errReader{want})
		if _, err := Read(r); !errors.Is(err, want) {
			t.Errorf("reader that fails after %d bytes: got %v, want %v", n, err, want)
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return 0, io.ErrShortWrite
	}
	w.left -= len(p)
	return len(p), nil
}

func TestWriterFails(t *testing.T) {
	for n := range len(encode(t, sample())) {
		if err := Write(&failingWriter{n}, sample()); !errors.Is(err, io.ErrShortWrite) {
			t.Fatalf("a writer that takes %d bytes: got %v, want %v", n, err, io.ErrShortWrite)
		}
	}
	if err := Write(io.Discard, &Recording{Runs: []Run{{Kind: "warm"}}}); err == nil {
		t.Error("an invalid recording was written")
	}
}

func FuzzRead(f *testing.F) {
	good := encode(f, sample())
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		// The fuzzer cannot guess check codes, so it is given them.
		if len(data) >= headerSize {
			h := (*header)(data)
			h.setCheck(h.sum())
			for b := data[headerSize:]; len(b) >= sectionSize; {
				s := (*section)(b)
				n := min(s.stored(), uint64(len(b)-sectionSize))
				s.setCheck(s.sum(b[sectionSize:][:n]))
				b = b[sectionSize+n:]
			}
		}
		r, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		checkPhases(t, r)
		again, err := Read(bytes.NewReader(encode(t, r)))
		if err != nil {
			t.Fatalf("written again, the recording cannot be read: %v", err)
		}
		if diff := cmp.Diff(r, again); diff != "" {
			t.Errorf("recording changed on its way through a file:\n%s", diff)
		}
	})
}

// FuzzRun looks behind the compression.
func FuzzRun(f *testing.F) {
	for _, run := range sample().Runs {
		seed, err := json.Marshal(run)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, run []byte) {
		var b bytes.Buffer
		b.Write(file(version, "", 0, nil)[:headerSize])
		e := &encoder{w: &b}
		e.section(tagBoot, []byte("{}"))
		e.section(tagRun, run)
		e.section(tagEnd, nil)
		if r, err := Read(&b); err == nil {
			checkPhases(t, r)
		}
	})
}

// FuzzRows gives the fuzzer sections of rows: the file up to its i-th section, and then one of its own.
func FuzzRows(f *testing.F) {
	r := sample()
	r.Runs = r.Runs[:1]
	r.Runs[0].IO = []Request{{Op: "read", Offset: 4096, Length: 512, Parts: []Part{{Path: "/a", What: "data", Length: 512}}}}
	r.Exact = &Profile{
		Kind: Exact, Phases: []string{"kernel"}, Functions: []Function{{Name: "main", File: "main.c", Line: 3}},
		Mappings: []Mapping{{Name: "kernel", Limit: 99}}, Locations: []Location{{Mapping: 0, Address: 7, Lines: []Line{{0, 4}}}},
		Stacks: []Stack{{Location: -1}, {First: 5}}, Samples: []Sample{{Stack: 1, Instructions: 5}},
	}
	good := encode(f, r)
	d := &decoder{r: bytes.NewReader(good[headerSize:])}
	var tags [][4]byte
	var raws [][]byte
	for d.err == nil {
		tag, raw := d.section()
		tags, raws = append(tags, tag), append(raws, raw)
		if tag == tagEnd {
			break
		}
		f.Add(len(tags)-1, string(tag[:]), raw)
	}
	if len(tags) != 12 {
		f.Fatalf("the seed has sections %q", tags)
	}
	f.Fuzz(func(t *testing.T, n int, tag string, raw []byte) {
		if n < 0 || n > len(tags) || len(tag) != 4 {
			return
		}
		b := bytes.NewBuffer(bytes.Clone(good[:headerSize]))
		e := &encoder{w: b}
		for i := range n {
			e.section(tags[i], raws[i])
		}
		e.section([4]byte([]byte(tag)), raw)
		if tag != "END." {
			e.section(tagEnd, nil)
		}
		r, err := Read(b)
		if err != nil {
			return
		}
		again, err := Read(bytes.NewReader(encode(t, r)))
		if err != nil {
			t.Fatalf("written again, the recording cannot be read: %v", err)
		}
		if diff := cmp.Diff(r, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("recording changed on its way through a file:\n%s", diff)
		}
	})
}

// TestFuzzSeed proves that the fuzz target's seed reaches the decoder.
func TestFuzzSeed(t *testing.T) {
	if r, err := Read(bytes.NewReader(encode(t, sample()))); err != nil || len(r.Runs) != 4 {
		t.Fatalf("the seed does not decode: %v", err)
	}
}

// checkPhases checks what must hold for every recording.
func checkPhases(t *testing.T, r *Recording) {
	t.Helper()
	s := r.Summarize()
	if s.TotalNanos == nil {
		if len(s.Phases) != 0 {
			t.Errorf("no timed run, but phases: %v", s.Phases)
		}
		return
	}
	sum := 0.0
	for _, p := range s.Phases {
		if p.Nanos < 0 {
			t.Errorf("phase %s takes %g ns", p.Name, p.Nanos)
		}
		steps := 0.0
		for _, st := range p.Steps {
			steps += st.Nanos
		}
		if len(p.Steps) > 0 && math.Abs(steps-p.Nanos) > 1 {
			t.Errorf("steps of %s add up to %g ns, the phase to %g", p.Name, steps, p.Nanos)
		}
		sum += p.Nanos
	}
	if math.Abs(sum-s.TotalNanos.Median) > 1 {
		t.Errorf("phases add up to %g ns, the total is %g", sum, s.TotalNanos.Median)
	}
}

func TestPhases(t *testing.T) {
	phase := func(name string, ms, instrs float64, steps ...Step) Phase {
		return Phase{Name: name, Nanos: ms * 1e6, Instructions: instrs, Counted: instrs > 0, Steps: steps}
	}
	step := func(name string, ms, instrs float64) Step { return Step{name, ms * 1e6, instrs, instrs > 0} }
	foreign := Run{Kind: Timed, Until: UntilOutput, ReadyNanos: 50 * ms}
	for _, tt := range []struct {
		name string
		runs []Run
		want []Phase
	}{
		{"no runs", nil, nil},
		{"native", []Run{native(100), counted()}, []Phase{
			phase("vmm", 20, 0), phase("firmware", 10, 5_000),
			phase("kernel", 30, 400_000, step("to main", 10, 100_000), step("to root", 10, 100_000), step("to app", 10, 200_000)),
			phase("app", 40, 195_000),
		}},
		{"median of three", []Run{native(200), native(100), native(110)}, []Phase{
			phase("vmm", 20, 0), phase("firmware", 10, 0),
			phase("kernel", 30, 0, step("to main", 10, 0), step("to root", 10, 0), step("to app", 10, 0)),
			phase("app", 50, 0),
		}},
		{"mean of the middle two", []Run{native(100), native(120)}, []Phase{
			phase("vmm", 20, 0), phase("firmware", 10, 0),
			phase("kernel", 30, 0, step("to main", 10, 0), step("to root", 10, 0), step("to app", 10, 0)),
			phase("app", 50, 0),
		}},
		{"one of two without a boot record", []Run{native(100), with(native(120), func(r *Run) {
			for i := range r.Marks {
				r.Marks[i].TSC = 0
			}
		})}, []Phase{
			phase("vmm+firmware", 30, 0),
			phase("kernel", 30, 0, step("to main", 10, 0), step("to root", 10, 0), step("to app", 10, 0)),
			phase("app", 50, 0),
		}},
		{"clock calibrated by the marks", []Run{with(native(100), func(r *Run) { r.Guest.TSCHz = 0 })}, []Phase{
			phase("vmm", 20, 0), phase("firmware", 10, 0),
			phase("kernel", 30, 0, step("to main", 10, 0), step("to root", 10, 0), step("to app", 10, 0)),
			phase("app", 40, 0),
		}},
		{"until entry", []Run{with(native(100), func(r *Run) { r.Until, r.ReadyNanos = UntilEntry, 60*ms })}, []Phase{
			phase("vmm", 20, 0), phase("firmware", 10, 0),
			phase("kernel", 30, 0, step("to main", 10, 0), step("to root", 10, 0), step("to app", 10, 0)),
		}},
		{"until exit", []Run{with(native(100), func(r *Run) { r.Until, r.ReadyNanos = UntilExit, 110*ms })}, []Phase{
			phase("vmm", 20, 0), phase("firmware", 10, 0),
			phase("kernel", 30, 0, step("to main", 10, 0), step("to root", 10, 0), step("to app", 10, 0)),
			phase("app", 50, 0, step("to output", 40, 0), step("to end", 5, 0), step("to exit", 5, 0)),
		}},
		{"until a named mark", []Run{with(native(100), func(r *Run) {
			r.Until, r.ReadyNanos = UntilMark+"listening", 90*ms
			r.Marks = append(r.Marks[:4:4], Mark{ID: abi.MarkNamed, Name: "config", HostNanos: 70 * ms}, Mark{ID: abi.MarkNamed, Name: "listening", HostNanos: 90 * ms})
		})}, []Phase{
			phase("vmm", 20, 0), phase("firmware", 10, 0),
			phase("kernel", 30, 0, step("to main", 10, 0), step("to root", 10, 0), step("to app", 10, 0)),
			phase("app", 30, 0, step("to config", 10, 0), step("to listening", 20, 0)),
		}},
		{"a kernel that tells nothing, to its first output", []Run{foreign}, []Phase{phase("vmm+firmware+kernel", 50, 0)}},
		{"a kernel that tells nothing, to its exit",
			[]Run{with(foreign, func(r *Run) { r.Until = UntilExit }), {Kind: Counting, Until: UntilExit, ReadyNanos: 1, Instructions: 4781}},
			[]Phase{phase("vmm+firmware+kernel+app", 50, 4781)}},
		{"OSv, to its exit", []Run{with(foreign, func(r *Run) { r.Until, r.Marks = UntilExit, []Mark{{ID: MarkOSv, HostNanos: 40 * ms}} })},
			[]Phase{phase("vmm+firmware+kernel", 40, 0), phase("app", 10, 0)}},
		{"a mark that the host saw too late", []Run{with(native(100), func(r *Run) { r.Marks[1].HostNanos = 55 * ms })}, []Phase{
			phase("vmm", 20, 0), phase("firmware", 10, 0),
			phase("kernel", 30, 0, step("to main", 10, 0), step("to root", 10, 0), step("to app", 10, 0)),
			phase("app", 40, 0),
		}},
		{"the same without the guest's clock", []Run{with(native(100), func(r *Run) {
			r.Marks[1].HostNanos = 55 * ms
			for i := range r.Marks {
				r.Marks[i].TSC = 0
			}
		})}, []Phase{
			phase("vmm+firmware", 30, 0),
			phase("kernel", 30, 0, step("to main", 25, 0), step("to root", 0, 0), step("to app", 5, 0)),
			phase("app", 40, 0),
		}},
		{"a guest whose clock was not started with it", []Run{with(native(100), func(r *Run) {
			for i := range r.Marks {
				r.Marks[i].TSC += 1e12
			}
		})}, []Phase{
			phase("vmm+firmware", 30, 0),
			phase("kernel", 30, 0, step("to main", 10, 0), step("to root", 10, 0), step("to app", 10, 0)),
			phase("app", 40, 0),
		}},
	} {
		r := &Recording{Runs: tt.runs}
		got := r.Phases()
		for i := range got { // what was not counted has no number that means anything
			if !got[i].Counted {
				got[i].Instructions = 0
			}
			for j := range got[i].Steps {
				if !got[i].Steps[j].Counted {
					got[i].Steps[j].Instructions = 0
				}
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: phases (-want +got):\n%s", tt.name, diff)
		}
		checkPhases(t, r)
	}
}

func with(r Run, f func(*Run)) Run {
	if r.Guest != nil {
		g := *r.Guest
		r.Guest = &g
	}
	r.Marks = append([]Mark(nil), r.Marks...)
	f(&r)
	return r
}

func TestSetReady(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  Run
		seen int64
		want int64
	}{
		{"at once", native(100), 100 * ms, 100 * ms},
		{"late", native(100), 103 * ms, 100 * ms},
		{"no clock", Run{Kind: Timed, Until: UntilOutput}, 103 * ms, 103 * ms},
		{"exit", with(native(100), func(r *Run) { r.Until = UntilExit }), 120 * ms, 120 * ms},
	} {
		if tt.run.SetReady(tt.seen); tt.run.ReadyNanos != tt.want {
			t.Errorf("%s: ready after %d ns, want %d", tt.name, tt.run.ReadyNanos, tt.want)
		}
	}
}

func TestTSCHz(t *testing.T) {
	together := func(r *Run) { // the host saw all marks at once
		for i := range r.Marks {
			r.Marks[i].HostNanos, r.Marks[i].TSC = 110*ms, uint64(20+2*i)*ms
		}
	}
	ends := func(hostA, tscA, hostB, tscB int64) func(*Run) { // in milliseconds, and millions of ticks
		return func(r *Run) {
			a, b := &r.Marks[0], &r.Marks[len(r.Marks)-1]
			a.HostNanos, a.TSC = hostA*ms, uint64(tscA)*ms
			b.HostNanos, b.TSC = hostB*ms, uint64(tscB)*ms
			r.Marks = []Mark{*a, *b}
		}
	}
	long := func(r *Run) { // the marks lie a second apart
		last := &r.Marks[len(r.Marks)-1]
		last.HostNanos, last.TSC = 1030*ms, 2020*ms
	}
	for _, tt := range []struct {
		name        string
		guest, host uint64
		change      func(*Run)
		want        float64
	}{
		{"the guest's own", 3e9, 2.1e9, long, 3e9},
		{"the host's", 0, 2.1e9, long, 2.1e9},
		{"the host's, marks seen together", 0, 2.1e9, together, 2.1e9},
		{"the host's, one mark", 0, 2.1e9, func(r *Run) { r.Marks = r.Marks[:1] }, 2.1e9},
		{"the host's is not the guest's", 0, 1e9, long, 2e9},
		{"the host's, the first mark seen late", 0, 2e9, ends(110, 40, 112, 140), 2e9},
		{"the host's, both marks seen late and together", 0, 2e9, ends(110, 40, 110, 140), 2e9},
		{"the host's, the last mark seen late", 0, 2e9, ends(50, 40, 150, 44), 2e9},
		{"not known: a clock from before t0", 0, 2e9, ends(110, 240, 110, 340), 0},
		{"by the marks, a slow clock", 0, 2e9, ends(50, 4, 150, 104), 1e9},
		{"by the marks", 0, 0, long, 2e9},
		{"not known: marks seen together", 0, 0, together, 0},
		{"not known: one mark", 0, 0, func(r *Run) { r.Marks = r.Marks[:1] }, 0},
		{"not known: no marks", 0, 2.1e9, func(r *Run) { r.Marks = nil }, 0},
	} {
		run := with(native(100), func(r *Run) {
			r.Guest.TSCHz, r.HostTSCHz = tt.guest, tt.host
			tt.change(r)
		})
		if got, ok := run.TSCHz(); got != tt.want || ok != (tt.want > 0) {
			t.Errorf("%s: %g, %v, want %g", tt.name, got, ok, tt.want)
		}
	}
}

func TestStats(t *testing.T) {
	if _, ok := NewStats(nil); ok {
		t.Error("statistics of nothing")
	}
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, tt := range []struct {
		values []float64
		want   Stats
	}{
		{[]float64{3}, Stats{1, 3, 3, 3, 3}},
		{[]float64{4, 1}, Stats{2, 1, 2.5, 4, 4}},
		{[]float64{9, 1, 2}, Stats{3, 1, 2, 9, 9}},
		{hundred, Stats{100, 1, 50.5, 95, 100}},
		{hundred[:20], Stats{20, 81, 90.5, 99, 100}},
	} {
		if got, _ := NewStats(tt.values); got != tt.want {
			t.Errorf("NewStats(%v) = %+v, want %+v", tt.values, got, tt.want)
		}
	}
}

func TestBudget(t *testing.T) {
	s := sample().Summarize()
	boot, zero := 110*time.Millisecond, uint64(0)
	memory, instrs := uint64(6<<20), uint64(599_999)
	check := func(b Budget, s Summary) string {
		var out []string
		for _, v := range b.Check(s) {
			switch {
			case v.Measured == nil:
				out = append(out, v.Budget+" unmeasured")
			case v.Exceeded():
				out = append(out, v.Budget+" exceeded")
			default:
				out = append(out, v.Budget+" ok")
			}
		}
		return strings.Join(out, ", ")
	}
	for _, tt := range []struct {
		budget Budget
		s      Summary
		want   string
	}{
		{Budget{}, s, ""},
		{Budget{&boot, &memory, &instrs}, s, "boot ok, memory ok, instructions exceeded"},
		{Budget{MemoryBytes: &zero}, s, "memory exceeded"},
		{Budget{&boot, &memory, &instrs}, Summary{}, "boot unmeasured, memory unmeasured, instructions unmeasured"},
	} {
		if got := check(tt.budget, tt.s); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	if v := (Budget{Instructions: &instrs}).Check(s)[0]; v.Over() != 1 {
		t.Errorf("Over() = %g, want 1", v.Over())
	}
}

func TestLayout(t *testing.T) {
	var h header
	h.setMagic()
	h.setVersion(0x01020304)
	h.setCheck(0x05060708)
	if want := "FLRECORD\x04\x03\x02\x01\x08\x07\x06\x05"; string(h[:]) != want {
		t.Errorf("header is %q, want %q", h[:], want)
	}
	var s section
	s.setTag(tagBoot)
	s.setCheck(1)
	s.setStored(2)
	s.setRawLen(3)
	want := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64([]byte("BOOT\x01\x00\x00\x00"), 2), 3)
	if !bytes.Equal(s[:], want) {
		t.Errorf("section header is %q, want %q", s[:], want)
	}
}
