package ring0

import "math/bits"

// The arithmetic of the clock, apart from the machine. It runs in kernel context.

// A frequency outside of these is none that a TSC has, so what led to it was not right.
const (
	minHz = 10e6
	maxHz = 100e9
)

// scale turns ticks into nanoseconds, with mult in units of 2^-32.
func scale(ticks, mult uint64) uint64 {
	hi, lo := bits.Mul64(ticks, mult)
	return hi<<32 | lo>>32
}

// kernelRatio returns, for ticks that took nanos, the length of a tick in 2^-32 ns and their frequency. It is false when
// there is no such frequency: neither a counter that stood still nor one that ran backwards makes it divide by zero or
// overflow.
func kernelRatio(ticks, nanos uint64) (mult, hz uint64, ok bool) {
	if ticks == 0 || nanos == 0 || ticks>>40 != 0 || nanos>>32 != 0 {
		return 0, 0, false
	}
	// ticks < 2^40 and nanos < 2^32 keep every step in 64 bits.
	hz = ticks/nanos*1e9 + ticks%nanos*1e9/nanos
	if hz < minHz || hz > maxHz {
		return 0, 0, false
	}
	return nanos << 32 / ticks, hz, true
}

// kernelMult returns the length of a tick in 2^-32 ns for a frequency between minHz and maxHz.
func kernelMult(hz uint64) uint64 { return 1e9 << 32 / hz }

// kernelTSCHz returns the frequency that CPUID leaf 0x15 tells: the crystal's, times a ratio; 0 if it does not tell one.
func kernelTSCHz(denominator, numerator, crystal uint64) uint64 {
	if denominator == 0 || numerator == 0 {
		return 0
	}
	hz := crystal * numerator / denominator // 32 bits each
	if hz < minHz || hz > maxHz {
		return 0
	}
	return hz
}

// kernelPVMult turns pvclock's factor, in 2^-32 ns for a TSC that is shifted left (or right, if negative), into the length of
// a tick in 2^-32 ns; 0 if that is none.
func kernelPVMult(factor uint32, shift int8) uint64 {
	m := uint64(factor)
	switch {
	case shift < -31 || shift > 31:
		return 0
	case shift < 0:
		m >>= -shift & 31
	default:
		m <<= shift & 31
	}
	if m < kernelMult(maxHz) || m > kernelMult(minHz) {
		return 0
	}
	return m
}

// reading is one reading of the APIC timer's count, between two of the TSC. The host may preempt the machine anywhere.
type reading struct {
	before, after uint64
	count         uint32
}

// kernelTightest returns the moment and the count of the reading whose two TSCs lie closest together, and how far.
func kernelTightest(r *[3]reading) (at, width uint64, count uint32) {
	width = ^uint64(0)
	for i := range r {
		if w := r[i].after - r[i].before; w < width { // one that went backwards is the widest
			width, at, count = w, r[i].before+w/2, r[i].count
		}
	}
	return at, width, count
}

// kernelMeasure returns how many ticks and nanoseconds there were between TSC start, when a timer of 1 GHz began to count down
// from initial, and a reading; wrapped says that it reached 0 and began anew meanwhile. It is false when that cannot be told:
// the reading must be a thousand times tighter than the time that was measured.
func kernelMeasure(start uint64, r *[3]reading, initial uint32, wrapped bool) (ticks, nanos uint64, ok bool) {
	at, width, count := kernelTightest(r)
	ticks = at - start
	if count == 0 || count > initial || width >= ticks>>10 {
		return 0, 0, false
	}
	nanos = uint64(initial - count)
	if wrapped {
		nanos += uint64(initial)
	}
	return ticks, nanos, true
}

// kernelAgrees reports whether ticks and nanos differ from the rate by no more than an eighth, as they do when the timer
// has wrapped unseen.
func kernelAgrees(ticks, nanos, mult uint64) bool {
	want := scale(ticks, mult)
	return nanos >= want-want>>3 && nanos <= want+want>>3
}

// kernelDate returns the seconds since 1970 of a date of the Gregorian calendar, and false for what is no date between 1970
// and 2099.
func kernelDate(year, month, day, hour, minute, second uint64) (uint64, bool) {
	if year < 1970 || year > 2099 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60 {
		return 0, false
	}
	// Years that begin in March have their leap day at the end.
	if month <= 2 {
		month += 12
		year--
	}
	days := 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719468
	return days*86400 + hour*3600 + minute*60 + second, true
}

// rtc is what the battery-backed clock's registers say: second, minute, hour, day, month, year, century, and the register B
// that says how they are to be read.
type rtc [8]uint8

// kernelSeconds returns the seconds since 1970 that the registers stand for.
func (r *rtc) kernelSeconds() (uint64, bool) {
	const binary, hours24, afternoon = 4, 2, 0x80
	mode := r[7]
	pm := r[2]&afternoon != 0
	v := *r
	v[2] &^= afternoon
	if mode&binary == 0 {
		for i := range 7 {
			if v[i]&15 > 9 || v[i]>>4 > 9 {
				return 0, false
			}
			v[i] = v[i]>>4*10 + v[i]&15
		}
	}
	hour := uint64(v[2])
	if mode&hours24 == 0 {
		if hour < 1 || hour > 12 {
			return 0, false
		}
		hour %= 12
		if pm {
			hour += 12
		}
	}
	century := uint64(v[6])
	if century < 19 || century > 20 {
		century = 20 // not every machine has that register
	}
	return kernelDate(century*100+uint64(v[5]), uint64(v[4]), uint64(v[3]), hour, uint64(v[1]), uint64(v[0]))
}
