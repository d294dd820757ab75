package boottrace

// Request is a read, write or flush that the guest asked of a disk.
type Request struct {
	Op           string `json:"op"`   // read, write or flush
	Disk         int    `json:"disk"` // index among the guest's disks
	Offset       uint64 `json:"offset"`
	Length       uint64 `json:"length"`
	StartNanos   int64  `json:"start_ns,omitempty"` // since t0
	Nanos        int64  `json:"ns,omitempty"`       // latency
	Instructions uint64 `json:"instructions,omitempty"`
	// Parts is what the image holds there; what belongs to no file is left out.
	Parts []Part `json:"parts,omitempty"`
}

// Part is a range of a file's content, or of the file system's own structures.
type Part struct {
	Path   string `json:"path"` // absolute in the guest; "" of structures
	What   string `json:"what"` // data, or the name of a structure or a partition
	Offset uint64 `json:"offset"`
	Length uint64 `json:"length"` // of content, which may be more than was read when it is compressed
}

// MaxRequests bounds the requests kept of one run.
const MaxRequests = 1 << 14

// Memory is what a run's guest memory held, beyond how much of it was touched.
type Memory struct {
	ZeroBytes      uint64 `json:"zero_bytes"`          // touched pages with nothing but zeros
	DuplicateBytes uint64 `json:"duplicate_bytes"`     // touched pages, not zero, that an earlier one equals
	RSSBytes       uint64 `json:"rss_bytes,omitempty"` // resident set size of the VMM

	// ReadyBytes is how much was touched before the guest was ready; it has no devices' writes in it where it is of a counting run.
	// Ready divides that of a counting run by what the pages were for in the end.
	ReadyBytes uint64   `json:"ready_bytes,omitempty"`
	Ready      []Region `json:"ready,omitempty"`

	OverTime []Touched         `json:"over_time,omitempty"`
	Balloon  map[string]uint64 `json:"balloon,omitempty"` // the guest's statistics by their QMP names, in bytes or counts
}

// Toucher is a function that touched memory first.
type Toucher struct {
	Function string `json:"function"`
	Bytes    uint64 `json:"bytes"`
}

// Touched is how much memory was touched by an instant.
type Touched struct {
	Nanos        int64  `json:"ns,omitempty"` // since t0, of a timed run
	Instructions uint64 `json:"instructions,omitempty"`
	Bytes        uint64 `json:"bytes"`
}
