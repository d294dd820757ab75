package ring0

import (
	"math"
	"math/bits"
	"testing"
	"time"
)

// machine is a TSC of hz and a timer of 1 GHz that counts down, both read by a guest that the host preempts for some ns
// between or around the readings.
type machine struct {
	hz     float64
	start  uint64 // TSC when the timer started
	passed float64
}

func (m *machine) tsc() uint64 { return m.start + uint64(m.passed*m.hz/1e9) }

func (m *machine) count() uint32 {
	if m.passed >= maxCount {
		return 0
	}
	return uint32(maxCount - uint64(m.passed))
}

// read makes three readings of 40 ns each; before each of its three steps the host takes away preempt ns.
func (m *machine) read(preempt [3][3]float64) *[3]reading {
	var r [3]reading
	for i := range r {
		m.passed += preempt[i][0]
		r[i].before = m.tsc()
		m.passed += 20 + preempt[i][1]
		r[i].count = m.count()
		m.passed += 20 + preempt[i][2]
		r[i].after = m.tsc()
	}
	return &r
}

// The measured frequency is right within what the width of the tightest reading allows, whatever the TSC's frequency and
// whenever the host preempts; and where it cannot be right there is none.
func TestMeasure(t *testing.T) {
	quiet := [3][3]float64{}
	first := [3][3]float64{{0, 3e6, 0}, {}, {}}
	two := [3][3]float64{{1e6, 0, 4e6}, {2e6, 9e6, 0}, {}}
	all := [3][3]float64{{0, 9e6, 0}, {0, 0, 8e6}, {0, 7e6, 7e6}}
	for _, hz := range []float64{12.5e6, 100e6, 800e6, 999e6, 1e9, 1.001e9, 2.1e9, 3.0001e9, 5.7e9, 42e9} {
		for _, start := range []uint64{0, 1 << 40, math.MaxUint64 - 1000} { // also one that overflows meanwhile
			for _, after := range []float64{0, 1, 1e3, 1e5, 2e6, 20e6, 700e6, 4.2e9, 4.3e9, 90e9} {
				for name, preempt := range map[string][3][3]float64{"quiet": quiet, "first": first, "two": two, "all": all} {
					m := machine{hz: hz, start: start, passed: after}
					ticks, nanos, ok := kernelMeasure(start, m.read(preempt), maxCount, false)
					mult, got, ratio := kernelRatio(ticks, nanos)
					if !ok || !ratio {
						if name != "all" && after >= 2e6 && after < 4e9 && hz >= 800e6 {
							t.Errorf("%g Hz, %g ns, %s: no measure", hz, after, name)
						}
						continue
					}
					if off := math.Abs(float64(got)-hz) / hz; off > 1.0/1000 {
						t.Errorf("%g Hz after %g ns, %s: %d Hz", hz, after, name, got)
					}
					if off := math.Abs(float64(scale(ticks, mult))-float64(ticks)/float64(got)*1e9) - 100; off > float64(ticks)/float64(got)*1e3 {
						t.Errorf("%g Hz after %g ns, %s: %d ticks are %d ns", hz, after, name, ticks, scale(ticks, mult))
					}
				}
			}
		}
	}
	// Clocks that stand still, or run backwards.
	for _, r := range [][3]reading{{}, {{100, 100, 5}, {100, 100, 5}, {100, 100, 5}}, {{50, 40, 5}, {30, 20, 5}, {10, 0, 5}}, {{math.MaxUint64, 0, 1}, {0, math.MaxUint64, 1}, {1, 0, 0}}} {
		if ticks, nanos, ok := kernelMeasure(100, &r, maxCount, false); ok {
			if _, hz, ok := kernelRatio(ticks, nanos); ok && (hz < minHz || hz > maxHz) {
				t.Errorf("%v: %d Hz", r, hz)
			}
		}
	}
	// A timer of 5 ms that has begun anew says how late its interrupt is; one that did so unseen is found out.
	mult := kernelMult(3e9)
	for late := uint64(0); late < 5e6; late += 37123 {
		at := 100 + 3*(5e6+late)
		r := [3]reading{{at - 30, at + 30, uint32(5e6 - late)}, {at + 60, at + 9000, 1}, {at + 9000, at + 8000, 7}}
		ticks, nanos, ok := kernelMeasure(100, &r, 5e6, true)
		if ok != (late < 5e6-1) || ok && (nanos != 5e6+late || ticks != at-100 || !kernelAgrees(ticks, nanos, mult)) {
			t.Errorf("%d ns late: %d ticks, %d ns, %v", late, ticks, nanos, ok)
		}
		if ticks, nanos, ok := kernelMeasure(100, &r, 5e6, false); ok && kernelAgrees(ticks, nanos, mult) {
			t.Errorf("%d ns late: taken for %d ns", late, nanos)
		}
	}
	if _, _, ok := kernelMeasure(100, &[3]reading{{1e6, 1e6, 9}, {1e6, 1e6, 9}, {1e6, 1e6, 9}}, 8, false); ok {
		t.Error("a count beyond the first was taken")
	}
}

func TestRatio(t *testing.T) {
	for _, c := range []struct {
		ticks, nanos, hz uint64
		ok               bool
	}{
		{0, 0, 0, false}, {1, 0, 0, false}, {0, 1, 0, false}, {1 << 40, 1, 0, false}, {1, 1 << 32, 0, false},
		{1, 1, 1e9, true}, {3, 1, 3e9, true}, {1, 3, 333333333, true}, {1 << 39, 1<<32 - 1, 128000000029, false},
		{1, 1000, 0, false}, {1<<40 - 1, 1, 0, false}, {42949673, maxCount, 10000000, true}, {42949672, maxCount, 0, false},
	} {
		mult, hz, ok := kernelRatio(c.ticks, c.nanos)
		if ok != c.ok || ok && hz != c.hz {
			t.Errorf("%d ticks in %d ns: %d Hz, %v", c.ticks, c.nanos, hz, ok)
		}
		if ok && mult != c.nanos<<32/c.ticks {
			t.Errorf("%d ticks in %d ns: factor %d", c.ticks, c.nanos, mult)
		}
	}
}

func TestScale(t *testing.T) {
	for _, hz := range []uint64{minHz, 999999999, 1e9, 2.4e9, maxHz} {
		mult := kernelMult(hz)
		for _, seconds := range []uint64{0, 1, 3600, 86400 * 365 * 5} {
			ticks := seconds * hz
			if hi, _ := bits.Mul64(seconds, hz); hi != 0 {
				continue
			}
			got, want := scale(ticks, mult), seconds*1e9
			if got > want || want-got > want/40000000+1 { // rounded down, by 2^-32 of a ns in each tick
				t.Errorf("%d s at %d Hz are %d ns", seconds, hz, got)
			}
		}
	}
}

func TestTSCHz(t *testing.T) {
	for _, c := range []struct{ den, num, crystal, want uint64 }{
		{0, 0, 0, 0}, {2, 0, 24e6, 0}, {0, 2, 24e6, 0}, {2, 216, 0, 0}, {2, 216, 24e6, 2592e6}, {1, 1, 1, 0},
		{1, math.MaxUint32, math.MaxUint32, 0}, {3, 376, 19.2e6, 2406400000},
	} {
		if got := kernelTSCHz(c.den, c.num, c.crystal); got != c.want {
			t.Errorf("%d/%d of %d Hz: %d, want %d", c.num, c.den, c.crystal, got, c.want)
		}
	}
}

// The pairs are those that Linux's kvm_get_time_scale gives for 1 GHz and the frequency.
func TestPVMult(t *testing.T) {
	for _, c := range []struct {
		factor uint32
		shift  int8
		hz     uint64
	}{{1 << 31, 1, 1e9}, {2863311530, -1, 3e9}, {3579139413, -1, 2400000000}, {2684354560, 1, 800000000}, {0, 0, 0}, {1, 31, 0}, {1 << 31, 127, 0}, {1 << 31, -128, 0}, {1 << 31, -31, 0}} {
		got := kernelPVMult(c.factor, c.shift)
		if c.hz == 0 {
			if got != 0 && (got < kernelMult(maxHz) || got > kernelMult(minHz)) {
				t.Errorf("factor %d, shift %d: %d", c.factor, c.shift, got)
			}
			continue
		}
		if want := kernelMult(c.hz); got > want+2 || got < want-2 {
			t.Errorf("factor %d, shift %d: %d, want %d", c.factor, c.shift, got, want)
		}
	}
}

func TestDate(t *testing.T) {
	for d := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC); d.Year() < 2100; d = d.Add(23*time.Hour + 1847*time.Second) {
		got, ok := kernelDate(uint64(d.Year()), uint64(d.Month()), uint64(d.Day()), uint64(d.Hour()), uint64(d.Minute()), uint64(d.Second()))
		if !ok || got != uint64(d.Unix()) {
			t.Fatalf("%v: %d, want %d", d, got, d.Unix())
		}
	}
	for _, c := range [][6]uint64{{1969, 12, 31, 0, 0, 0}, {2100, 1, 1, 0, 0, 0}, {2000, 0, 1, 0, 0, 0}, {2000, 13, 1, 0, 0, 0}, {2000, 1, 0, 0, 0, 0}, {2000, 1, 32, 0, 0, 0}, {2000, 1, 1, 24, 0, 0}, {2000, 1, 1, 0, 60, 0}} {
		if got, ok := kernelDate(c[0], c[1], c[2], c[3], c[4], c[5]); ok {
			t.Errorf("%v is %d", c, got)
		}
	}
}

func TestRTC(t *testing.T) {
	want := uint64(time.Date(2020, 2, 29, 23, 59, 58, 0, time.UTC).Unix())
	noon := uint64(time.Date(2020, 2, 29, 12, 0, 0, 0, time.UTC).Unix())
	for _, c := range []struct {
		r    rtc
		want uint64
		ok   bool
	}{
		{rtc{0x58, 0x59, 0x23, 0x29, 0x02, 0x20, 0x20, 2}, want, true},
		{rtc{58, 59, 23, 29, 2, 20, 20, 6}, want, true},
		{rtc{0x58, 0x59, 0x91, 0x29, 0x02, 0x20, 0x20, 0}, want, true}, // 11 in the afternoon
		{rtc{58, 59, 0x80 | 11, 29, 2, 20, 0xff, 4}, want, true},       // no century
		{rtc{0, 0, 0x92, 0x29, 0x02, 0x20, 0x20, 0}, noon, true},
		{rtc{0, 0, 0x12, 0x29, 0x02, 0x20, 0x20, 0}, noon - 43200, true},
		{rtc{0x5a, 0x59, 0x23, 0x29, 0x02, 0x20, 0x20, 2}, 0, false},
		{rtc{0, 0, 0, 0x29, 0x02, 0x20, 0x20, 0}, 0, false},
		{rtc{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 0, false},
	} {
		if got, ok := c.r.kernelSeconds(); got != c.want || ok != c.ok {
			t.Errorf("%x: %d, %v; want %d", c.r, got, ok, c.want)
		}
	}
}
