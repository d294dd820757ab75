package boottrace

import "time"

// Budget is what a boot may cost. A nil limit is none; a limit of zero is one.
type Budget struct {
	Boot         *time.Duration // total of the timed runs
	MemoryBytes  *uint64        // touched pages of guest RAM
	Instructions *uint64        // guest instructions
}

// Verdict is the outcome of one budget.
type Verdict struct {
	Budget   string  // boot, memory or instructions
	Limit    float64 // nanoseconds, bytes or instructions
	Measured *Stats  // nil: it could not be measured
}

// Exceeded reports whether the median is over the limit.
func (v Verdict) Exceeded() bool { return v.Measured != nil && v.Measured.Median > v.Limit }

// Over is by how much the median is over the limit; negative when it is not.
func (v Verdict) Over() float64 { return v.Measured.Median - v.Limit }

// Check judges the boots that s sums up: one verdict for each limit that there is.
func (b Budget) Check(s Summary) []Verdict {
	var vs []Verdict
	if b.Boot != nil {
		vs = append(vs, Verdict{"boot", float64(*b.Boot), s.TotalNanos})
	}
	if b.MemoryBytes != nil {
		vs = append(vs, Verdict{"memory", float64(*b.MemoryBytes), s.TouchedBytes})
	}
	if b.Instructions != nil {
		vs = append(vs, Verdict{"instructions", float64(*b.Instructions), s.Instructions})
	}
	return vs
}
