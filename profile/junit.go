package profile

import (
	"encoding/xml"
	"fmt"
	"io"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// Case is a test case of a JUnit report. At most one of Failure, Error and Skipped is set; without any it passed.
type Case struct {
	Name  string
	Nanos int64 // how long it took; 0 if that means nothing

	Failure string // it was measured and is not as it must be
	Error   string // it could not be measured
	Skipped string // it was not decided

	Detail string // more text, of whatever kind
}

// WriteJUnit writes cases as a JUnit report with one test suite, in the form that Jenkins, GitLab and GitHub's actions read:
// github.com/jenkinsci/xunit-plugin, model/xsd/junit-10.xsd.
func WriteJUnit(w io.Writer, suite string, cases []Case) error {
	type message struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Time    string   `xml:"time,attr"` // seconds
		Failure *message `xml:"failure"`
		Error   *message `xml:"error"`
		Skipped *message `xml:"skipped"`
		Output  string   `xml:"system-out,omitempty"`
	}
	s := struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Time     string     `xml:"time,attr"`
		Cases    []testcase `xml:"testcase"`
	}{Name: suite, Tests: len(cases)}
	seconds := func(nanos int64) string { return fmt.Sprintf("%.6f", float64(nanos)/1e9) }
	var total int64
	for _, c := range cases {
		tc := testcase{Name: c.Name, Class: suite, Time: seconds(c.Nanos)}
		total += c.Nanos
		switch {
		case c.Failure != "":
			tc.Failure = &message{c.Failure, c.Detail}
			s.Failures++
		case c.Error != "":
			tc.Error = &message{c.Error, c.Detail}
			s.Errors++
		case c.Skipped != "":
			tc.Skipped = &message{c.Skipped, c.Detail}
			s.Skipped++
		default:
			tc.Output = c.Detail
		}
		s.Cases = append(s.Cases, tc)
	}
	s.Time = seconds(total)
	out, err := xml.MarshalIndent(struct {
		XMLName xml.Name `xml:"testsuites"`
		Suite   any
	}{Suite: s}, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, out)
	return err
}

// Cases returns a case for every boot, which failed if its app did, and one for every budget.
func Cases(r *boottrace.Recording, budget boottrace.Budget) []Case {
	var cases []Case
	for _, kind := range []boottrace.Kind{boottrace.Timed, boottrace.Counting} {
		for i, run := range r.Of(kind) {
			c := Case{Name: fmt.Sprintf("%s boot %d to %s", kind, i+1, run.Until)}
			if kind == boottrace.Timed {
				c.Nanos = run.ReadyNanos
			}
			if run.End != nil && run.End.Failed() {
				c.Failure = run.End.String()
				c.Detail = string(run.Output)
			}
			cases = append(cases, c)
		}
	}
	for _, v := range budget.Check(r.Summarize()) {
		c := Case{Name: "budget: " + v.Budget, Detail: "limit: " + amount(v.Budget, v.Limit)}
		switch {
		case v.Measured == nil:
			c.Error = "it was not measured"
		case v.Exceeded():
			c.Failure = fmt.Sprintf("%s; the limit is %s", amount(v.Budget, v.Measured.Median), amount(v.Budget, v.Limit))
		default:
			c.Detail = fmt.Sprintf("%s; %s", amount(v.Budget, v.Measured.Median), c.Detail)
		}
		cases = append(cases, c)
	}
	return cases
}

// amount formats an amount of what a budget limits.
func amount(budget string, n float64) string {
	switch budget {
	case "boot":
		return fmt.Sprintf("%.2f ms", n/1e6)
	case "memory":
		return fmt.Sprintf("%.0f bytes", n)
	}
	return count(n, true) + " " + budget
}
