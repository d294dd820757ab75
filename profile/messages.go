package profile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// GuestTime is an event that the guest tells with a time by its own clock, beside ours. Clocks of guests start late: after the VMM and
// the firmware, and often after a part of the kernel.
type GuestTime struct {
	Text    string   `json:"text"`
	GuestMS float64  `json:"guest_ms"`                 // as the guest says
	EntryMS *float64 `json:"since_entry_ms,omitempty"` // since the kernel's first instruction, by the host's clock
	TotalMS *float64 `json:"total_ms,omitempty"`       // since the VMM's start, by the host's clock
	// Mark is the mark that is the same instant; without one, the host's times are of when it saw the text.
	Mark string `json:"mark,omitempty"`
}

// GuestTimes returns what the guest said in the timed boot whose time is the median.
func GuestTimes(r *boottrace.Recording) []GuestTime {
	runs := r.MedianRuns()
	if len(runs) == 0 {
		return nil
	}
	entry := int64(0)
	if i := slices.IndexFunc(runs[0].Marks, func(m boottrace.Mark) bool { return m.ID == abi.MarkEntry }); i >= 0 {
		entry = runs[0].Marks[i].HostNanos
	}
	var all []GuestTime
	for _, t := range runs[0].Told() {
		g := GuestTime{Text: t.Text, GuestMS: millis(float64(t.GuestNanos)), Mark: t.Mark}
		at := t.MarkNanos
		if at == 0 {
			at = t.HostNanos
		}
		if at > 0 {
			g.TotalMS = new(millis(float64(at)))
			if entry > 0 && at >= entry {
				g.EntryMS = new(millis(float64(at - entry)))
			}
		}
		all = append(all, g)
	}
	return all
}

// maxText is how many characters of a guest's text a line has.
const maxText = 44

// guestTimes lists the guest's own times: all with the marks, or else those that the host has a mark for.
func (t *timeline) guestTimes() {
	all := GuestTimes(t.r)
	shown := all
	if !t.style.Marks {
		shown = slices.DeleteFunc(slices.Clone(all), func(g GuestTime) bool {
			return g.TotalMS != nil && g.Mark == "" || strings.HasPrefix(g.Mark, boottrace.InitcallPrefix)
		})
	}
	if len(shown) == 0 {
		return
	}
	width := len("the guest's own times") + 1
	for _, g := range shown {
		width = max(width, min(len([]rune(g.Text)), maxText)+1)
	}
	t.printf("%s\n", t.style.paint(dim, fmt.Sprintf("%-*s%*s%*s%*s", width, "the guest's own times", 12, "guest ms", 16, "since entry ms", 12, "total ms")))
	for _, g := range shown {
		text := []rune(g.Text)
		if len(text) > maxText {
			text = append(text[:maxText-1:maxText-1], '…')
		}
		ours := func(ms *float64) string {
			if ms == nil {
				return "-"
			}
			return fmt.Sprintf("%.2f", *ms)
		}
		t.printf("%s%*.2f%*s%*s\n", padRight(string(text), width), 12, g.GuestMS, 16, ours(g.EntryMS), 12, ours(g.TotalMS))
	}
	if len(shown) < len(all) {
		t.printf("%s\n", t.style.paint(dim, fmt.Sprintf("(one timed boot; %d more lines with a time: --verbose)", len(all)-len(shown))))
	}
	t.printf("\n")
}
