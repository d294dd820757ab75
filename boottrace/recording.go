// Package boottrace holds what was learnt from booting one image on one host: the Recording, with its runs, marks, memory
// and output; its file format; and what can be said from it: phases, statistics and budgets. It measures nothing itself.
package boottrace

import (
	"fmt"
	"math"
	"strconv"

	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// Kind says what a run was for. Numbers of different kinds are never mixed.
type Kind string

const (
	Timed    Kind = "timed"    // the wall clock counts
	Counting Kind = "counting" // guest instructions count; its wall time means nothing
	Floor    Kind = "floor"    // the wall time of a guest that exits at once
	Traced   Kind = "traced"   // the disk requests count; their trace makes its wall time a little longer
)

// What Ready may be; UntilMark is followed by a mark's name.
const (
	UntilEntry  = "entry"
	UntilOutput = "output"
	UntilExit   = "exit"
	UntilMark   = "mark:"
)

// Recording is everything that is known about the boots of one image. Times are in nanoseconds, sizes in bytes; a zero in
// an optional field means that it was not measured.
type Recording struct {
	Image    string   `json:"image"`   // file name as the user gave it
	Flavour  string   `json:"flavour"` // native, linux or osv
	VMM      string   `json:"vmm"`     // name and version
	Accel    string   `json:"accel"`
	Machine  string   `json:"machine"`
	Firmware string   `json:"firmware"`
	CPU      string   `json:"cpu,omitempty"`  // the host's model
	Argv     []string `json:"argv,omitempty"` // the VMM's, of a timed boot

	ImageID      string `json:"image_id,omitempty"`     // of an image of ours, by its content: image.Image.ID
	ImageBytes   uint64 `json:"image_bytes,omitempty"`  // of all files that were booted
	MemoryBytes  uint64 `json:"memory_bytes,omitempty"` // RAM of the guest
	CPUs         int    `json:"cpus,omitempty"`         // virtual ones; 0 stands for 1
	PrepareNanos int64  `json:"prepare_ns,omitempty"`   // the host's work before t0
	TimeNanos    int64  `json:"time_ns,omitempty"`      // when recorded, since 1970

	Runs []Run `json:"-"`

	Exact   *Profile `json:"-"` // nil if none was taken
	Sampled *Profile `json:"-"` // nil if none was taken
}

// Run is one boot, from t0, the instant before the VMM was spawned, to its end.
type Run struct {
	Kind  Kind   `json:"kind"`
	Until string `json:"until,omitempty"` // what Ready was in this run: one of the Until constants

	ReadyNanos   int64  `json:"ready_ns,omitempty"`     // t0 to ready
	ExitNanos    int64  `json:"exit_ns,omitempty"`      // t0 to the VMM's exit, where it was not stopped by us
	Instructions uint64 `json:"instructions,omitempty"` // guest instructions to ready, of a counting run

	Marks []Mark `json:"marks,omitempty"` // in the order in which the guest wrote them
	Guest *Guest `json:"guest,omitempty"` // what the kernel itself reported
	// HostTSCHz is the frequency of the host's TSC, which is the guest's too unless the kernel says otherwise.
	HostTSCHz uint64 `json:"host_tsc_hz,omitempty"`
	End       *End   `json:"end,omitempty"` // nil when the app was stopped before its end or the kernel does not tell

	TouchedBytes uint64 `json:"touched_bytes,omitempty"` // pages of guest RAM that were ever touched
	PSSBytes     uint64 `json:"pss_bytes,omitempty"`     // the VMM's proportional set size
	// Regions divide TouchedBytes by what the pages were for, where that is known.
	Regions []Region `json:"regions,omitempty"`

	Memory  *Memory   `json:"memory,omitempty"`
	IO      []Request `json:"io,omitempty"` // in the order in which they were made, at most MaxRequests
	IOTotal int       `json:"io_total,omitempty"`

	Output      []byte    `json:"output,omitempty"`       // the console, up to a limit
	Messages    []Message `json:"messages,omitempty"`     // lines of Output with a time by the guest's own clock
	OutputBytes uint64    `json:"output_bytes,omitempty"` // all of it
}

// Region is a part of the guest's RAM.
type Region struct {
	Name         string `json:"name"`
	TouchedBytes uint64 `json:"touched_bytes"`
	// First are the few functions that touched most of it first, where that was logged.
	First []Toucher `json:"first,omitempty"`
	// OverTime is how many bytes of it were touched at each instant of Memory.OverTime, where that is known.
	OverTime []uint64 `json:"over_time,omitempty"`
}

// Mark is an instant that the guest announced.
type Mark struct {
	ID           uint8  `json:"id"`             // the byte written, as in docs/guest-abi.md
	Name         string `json:"name,omitempty"` // of a named mark
	HostNanos    int64  `json:"host_ns,omitempty"`
	TSC          uint64 `json:"tsc,omitempty"`          // the guest's clock; zero when the guest did not record it
	Instructions uint64 `json:"instructions,omitempty"` // guest instructions executed before it, of a counting run
}

// Guest is what the kernel wrote into its boot record.
type Guest struct {
	EntryTSC  uint64 `json:"entry_tsc,omitempty"` // TSC at kernel entry; it starts at zero with the vCPU
	TSCHz     uint64 `json:"tsc_hz,omitempty"`
	Pages     uint64 `json:"pages,omitempty"` // of RAM that the kernel manages
	PagesFree uint64 `json:"pages_free,omitempty"`
	// Owners are the pages of RAM by owner, as the kernel counts them: they add up to what its loader says is RAM.
	Owners       []OwnedPages `json:"owners,omitempty"`
	DiskRequests uint64       `json:"disk_requests,omitempty"`
	DiskBytes    uint64       `json:"disk_bytes,omitempty"`
}

// OwnedPages are the pages of one owner, by abi.OwnerNames.
type OwnedPages struct {
	Name  string `json:"name"`
	Pages uint64 `json:"pages"`
}

// End is how the app ended, in the numbers of abi.EndExited and its fellows.
type End struct {
	How  uint8  `json:"how"`
	Code uint32 `json:"code"`
}

// Failed reports whether the end is other than an exit with 0.
func (e *End) Failed() bool { return e.How != abi.EndExited || e.Code != 0 }

// ExitCode is the app's exit code, or 128 plus the signal's number as shells have it. ok is false when no app ran.
func (e *End) ExitCode() (code int, ok bool) {
	switch e.How {
	case abi.EndExited:
		return int(e.Code), true
	case abi.EndKilled:
		return 128 + int(e.Code), true
	}
	return 0, false
}

// String says how the app ended, for people.
func (e *End) String() string {
	switch e.How {
	case abi.EndExited:
		return fmt.Sprintf("the app exited with %d", e.Code)
	case abi.EndKilled:
		return "the app was killed by " + signalName(e.Code)
	case abi.EndPanic:
		return "the kernel panicked"
	case abi.EndNotStart:
		return "the app could not be started: " + errnoText(e.Code)
	}
	return fmt.Sprintf("the boot ended in a way that is not known here (%d, %d)", e.How, e.Code)
}

// markNames are the names of the marks that docs/guest-abi.md defines, and OSv's.
var markNames = map[uint8]string{
	abi.MarkEntry:  "entry",
	abi.MarkMain:   "main",
	abi.MarkRoot:   "root",
	abi.MarkApp:    "app",
	abi.MarkOutput: "output",
	abi.MarkEnd:    "end",
	MarkOSv:        "booted",
	MarkReset:      "reset",
}

// MarkReset is the ID of the mark that the host sets at the first instruction of the firmware, where it can see that.
const MarkReset = 0

// MarkOSv is the byte that OSv writes to the mark port when it has booted, just before the app.
const MarkOSv = 123

// Label is the mark's name for people: its own, its standard one, or its number.
func (m Mark) Label() string {
	if m.ID == abi.MarkNamed {
		return m.Name
	}
	if name := markNames[m.ID]; name != "" {
		return name
	}
	return "mark " + strconv.Itoa(int(m.ID))
}

// Of returns the runs of one kind, in their order.
func (r *Recording) Of(kind Kind) []*Run {
	var runs []*Run
	for i := range r.Runs {
		if r.Runs[i].Kind == kind {
			runs = append(runs, &r.Runs[i])
		}
	}
	return runs
}

// Outcome returns the run that tells how the boot ended: the first whose app failed, or else the last timed run, or the
// last counting run where there are no others; or nil.
func (r *Recording) Outcome() *Run {
	var last *Run
	for _, kind := range []Kind{Counting, Timed} {
		for _, run := range r.Of(kind) {
			last = run
		}
	}
	for i := range r.Runs {
		if run := &r.Runs[i]; run.Kind != Floor && run.End != nil && run.End.Failed() {
			return run
		}
	}
	return last
}

// Until is what ready was in the boots: of the first timed run, or of the first other one.
func (r *Recording) Until() string {
	for _, kind := range []Kind{Timed, Counting} {
		for _, run := range r.Of(kind) {
			return run.Until
		}
	}
	return ""
}

// MaxMarks bounds the marks of one run.
const MaxMarks = 4096

// MaxOutput bounds the output kept of one run.
const MaxOutput = 64 << 10

// maxNanos bounds the times in a recording, so that sums of them cannot overflow: some 26 days.
const maxNanos = math.MaxInt64 >> 12

// CheckValid says what in a recording could not have been measured. The decoder calls it, so that whatever it returns can
// be computed with.
func (r *Recording) CheckValid() error {
	if r.PrepareNanos < 0 || r.PrepareNanos > maxNanos {
		return fmt.Errorf("prepare_ns is %d", r.PrepareNanos)
	}
	for i := range r.Runs {
		if err := r.Runs[i].checkValid(); err != nil {
			return fmt.Errorf("run %d: %w", i, err)
		}
	}
	return nil
}

func (run *Run) checkValid() error {
	switch run.Kind {
	case Timed, Counting, Floor, Traced:
	default:
		return fmt.Errorf("kind %q", run.Kind)
	}
	for _, t := range []struct {
		name  string
		nanos int64
	}{{"ready_ns", run.ReadyNanos}, {"exit_ns", run.ExitNanos}} {
		if t.nanos < 0 || t.nanos > maxNanos {
			return fmt.Errorf("%s is %d", t.name, t.nanos)
		}
	}
	if len(run.Marks) > MaxMarks {
		return fmt.Errorf("%d marks; at most %d are kept", len(run.Marks), MaxMarks)
	}
	if len(run.IO) > MaxRequests {
		return fmt.Errorf("%d disk requests; at most %d are kept", len(run.IO), MaxRequests)
	}
	if len(run.Output) > MaxOutput {
		return fmt.Errorf("%d bytes of output; at most %d are kept", len(run.Output), MaxOutput)
	}
	if err := run.checkMessages(); err != nil {
		return err
	}
	var last uint64
	for i, m := range run.Marks {
		if m.HostNanos < 0 || m.HostNanos > maxNanos {
			return fmt.Errorf("mark %d: host_ns is %d", i, m.HostNanos)
		}
		if m.Instructions != 0 && m.Instructions < last {
			return fmt.Errorf("mark %d: %d instructions come after %d", i, m.Instructions, last)
		}
		last = max(last, m.Instructions)
	}
	return nil
}
