package html

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// tones are the places of the phases in the palette, from night to day.
var tones = map[string]int{"vmm": 1, "firmware": 2, "kernel": 3, "app": 4}

// tone returns a phase's place in the palette, of several merged ones that of the last; or 0.
func tone(phase string) int { return tones[phase[strings.LastIndexByte(phase, '+')+1:]] }

// millis formats nanoseconds as milliseconds.
func millis(nanos float64) string { return fmt.Sprintf("%.2f", nanos/1e6) }

// between formats the time from one instant to another in milliseconds. Instants are rounded, not what lies between them: so the
// lines of a table add up.
func between(from, to float64) string {
	return fmt.Sprintf("%.2f", (math.Round(to/1e4)-math.Round(from/1e4))/100)
}

// permille formats a place in a bar that is a thousand wide.
func permille(v float64) string { return fmt.Sprintf("%.2f", v) }

// count formats a whole number with separators.
func count(n float64) string {
	digits := fmt.Sprintf("%.0f", n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// size formats a number of bytes in binary units.
func size(n float64) string {
	unit := 0
	for n >= 1<<10 && unit < 4 {
		n /= 1 << 10
		unit++
	}
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", n), "0"), ".") + " " + [...]string{"B", "KiB", "MiB", "GiB", "TiB"}[unit]
}

// spread says on how many runs a figure was measured, and how far they lay apart.
func spread(s *boottrace.Stats, format string) string {
	if s.Runs == 1 {
		return "one boot"
	}
	f := map[string]func(float64) string{"ms": millis, "count": count, "size": size}[format]
	if f(s.Min) == f(s.Max) {
		return fmt.Sprintf("the same in %d boots", s.Runs)
	}
	return fmt.Sprintf("median of %d, %s to %s", s.Runs, f(s.Min), f(s.Max))
}

// printable replaces the control characters of a console by what stands for them in Unicode, and bytes that are no text.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\r':
			return -1
		case r < 0x20:
			return 0x2400 + r
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(string(b), string(unicode.ReplacementChar)))
}

// place formats a line of a source file.
func place(file string, line int) string {
	if file == "" || line <= 0 {
		return file
	}
	return file + ":" + strconv.Itoa(line)
}

// number makes a float fit for JSON, which has neither infinities nor NaN.
func number(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return math.Round(v)
}
