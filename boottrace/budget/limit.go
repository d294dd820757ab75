// Package budget reads budget files, which say what a boot may cost, and judges recordings by them.
//
// A budget file is YAML:
//
//	total: 250ms                  # or floor * 3, or baseline + 3%; a list holds several limits
//	phases: {firmware: 5ms, kernel: baseline + 10%}
//	instructions: {total: 1.6M, phases: {kernel: baseline + 1%}}
//	memory: {touched: 8M, rss: 64M, pss: 64M}
//	image: 4M
//	symbols: 99%
package budget

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/internal/appconfig"
)

// Metric is what a limit limits.
type Metric int

// The metrics.
const (
	Time         Metric = iota // t0 to ready, or a phase of it: nanoseconds of the timed boots
	Instructions               // of the guest, of the counting boots
	Touched                    // bytes of guest memory
	RSS                        // bytes: the VMM's resident set
	PSS                        // bytes: the VMM's proportional set
	ImageSize                  // bytes of the files that were booted
	Symbols                    // percent of the exact profile's instructions that are in functions with a name; a least share
)

// Reference is what a limit is relative to.
type Reference string

// The references.
const (
	None     Reference = ""
	Floor    Reference = "floor"    // the guest that exits at once, booted before each timed boot
	Baseline Reference = "baseline" // another recording
)

// Limit is one limit of a budget file: Times · reference + Plus. Of Times and Plus one is as good as absent: an absolute limit is
// Plus alone, and a relative one has Plus 0 or Times 1.
type Limit struct {
	Key    string // as the file has it: total, phases.kernel, instructions.total
	Line   int    // in the file
	Text   string // as the file has it
	Metric Metric
	Phase  string // "" is the whole boot

	Reference Reference
	Times     float64
	Plus      float64 // in the metric's unit; of Symbols in percent of the whole
}

// Least reports whether the measure must not be below the limit, rather than not above it.
func (l *Limit) Least() bool { return l.Metric == Symbols }

// ratio reports whether the limit is a multiple of its reference, and not its sum with something.
func (l *Limit) ratio() bool { return l.Reference != None && l.Plus == 0 }

// units say how amounts of the metrics are written, and what they are called.
var units = map[Metric]struct {
	name, example string
	parse         func(string) (float64, error)
}{
	Time:         {"length of time", "250ms", parseTime},
	Instructions: {"number of instructions", "1600000 or 1.6M", parseCount},
	Touched:      {"size", "8M", parseSize},
	RSS:          {"size", "64M", parseSize},
	PSS:          {"size", "64M", parseSize},
	ImageSize:    {"size", "4M", parseSize},
	Symbols:      {"share", "99%", parsePercent},
}

// maxNanos bounds times: a day.
const maxNanos = 24 * time.Hour

func parseTime(s string) (float64, error) {
	d, err := time.ParseDuration(strings.ReplaceAll(s, " ", ""))
	if err != nil || d <= 0 || d > maxNanos {
		return 0, errAmount
	}
	return float64(d), nil
}

var count = regexp.MustCompile(`^([0-9][0-9_]{0,20}(?:\.[0-9]{1,20})?)([kKMG]?)$`)

func parseCount(s string) (float64, error) {
	m := count.FindStringSubmatch(s)
	if m == nil {
		return 0, errAmount
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(m[1], "_", ""), 64)
	n = math.Round(n * map[string]float64{"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}[m[2]])
	if err != nil || n < 1 || n > 1<<53 {
		return 0, errAmount
	}
	return n, nil
}

func parseSize(s string) (float64, error) {
	n, err := appconfig.ParseSize(s)
	if err != nil || n > 1<<53 {
		return 0, errAmount
	}
	return float64(n), nil
}

var percent = regexp.MustCompile(`^([0-9]{1,6}(?:\.[0-9]{1,20})?) ?%$`)

func parsePercent(s string) (float64, error) {
	m := percent.FindStringSubmatch(s)
	if m == nil {
		return 0, errAmount
	}
	return strconv.ParseFloat(m[1], 64)
}

// errAmount stands for what setText says better.
var errAmount = errors.New("no amount")

var (
	relative = regexp.MustCompile(`^(floor|baseline)(?:\s*([*×+-])\s*(.+))?$`)
	multiple = regexp.MustCompile(`^(\S+)\s*[*×]\s*(floor|baseline)$`)
	factor   = regexp.MustCompile(`^[0-9]{1,6}(?:\.[0-9]{1,20})?$`)
)

// setText sets the limit from its text; the metric is known.
func (l *Limit) setText(text string) error {
	l.Text = strings.TrimSpace(text)
	s, u := l.Text, units[l.Metric]
	for _, sign := range []string{"<=", "≤", ">=", "≥"} {
		if rest, ok := strings.CutPrefix(s, sign); ok {
			if least := sign == ">=" || sign == "≥"; least != l.Least() {
				return fmt.Errorf("%q: want %s here, or no sign, which means the same", l.Text, map[bool]string{false: "<=", true: ">="}[l.Least()])
			}
			s = strings.TrimSpace(rest)
			break
		}
	}
	wrong := fmt.Errorf("%q is no %s; want as %s, or relative as %s", l.Text, u.name, u.example, l.relativeExample())
	if m := multiple.FindStringSubmatch(s); m != nil {
		s = m[2] + " * " + m[1]
	}
	m := relative.FindStringSubmatch(s)
	if m == nil {
		n, err := u.parse(s)
		if err != nil || l.Metric == Symbols && n > 100 {
			if factor.MatchString(s) && l.Metric == Time {
				return fmt.Errorf("%q has no unit; want as %sms or %ss", l.Text, s, s)
			}
			return wrong
		}
		l.Plus = n
		return nil
	}
	l.Reference, l.Times = Reference(m[1]), 1
	if l.Reference == Floor && l.Metric != Time {
		return fmt.Errorf("%q: the floor is a time, and this limit is a %s; want as %s, or %s", l.Text, u.name, u.example, l.relativeExample())
	}
	sign := map[string]float64{"+": 1, "-": -1}[m[2]]
	switch amount := strings.TrimSpace(m[3]); {
	case m[2] == "":
	case sign == 0:
		f, err := strconv.ParseFloat(amount, 64)
		if !factor.MatchString(amount) || err != nil {
			return wrong
		}
		l.Times = f
	case strings.HasSuffix(amount, "%") && l.Metric != Symbols:
		p, err := parsePercent(amount)
		if err != nil {
			return wrong
		}
		l.Times = 1 + sign*p/100
	default:
		n, err := u.parse(amount)
		if err != nil {
			return wrong
		}
		l.Plus = sign * n
	}
	if l.Times <= 0 {
		return fmt.Errorf("%q is nothing or less", l.Text)
	}
	return nil
}

// relativeExample is a relative limit that could be written.
func (l *Limit) relativeExample() string {
	switch l.Metric {
	case Time:
		return "floor * 3 or baseline + 3%"
	case Symbols:
		return "baseline - 1%"
	}
	return "baseline + 3%"
}
