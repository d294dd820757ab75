package budget

import "slices"

// Looks returns after how many timed boots the limits are judged, when at most that many are made: 8, and then twice as many each
// time.
func Looks(most int) []int {
	var looks []int
	for n := 8; n < most; n *= 2 {
		looks = append(looks, n)
	}
	return append(looks, most)
}

// MoreWouldTell reports whether a limit of time is undecided.
func MoreWouldTell(all []Result) bool {
	return slices.ContainsFunc(all, func(r Result) bool { return r.Metric == Time && r.Verdict == Undecided })
}
