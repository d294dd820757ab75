package profile

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// tracedRun is a boot with requests at the same time, failed ones, one that is under way at ready and one after it.
func tracedRun() boottrace.Run {
	const us = 1000
	data := func(path string, off, n uint64) []boottrace.Part {
		return []boottrace.Part{{Path: path, What: "data", Offset: off, Length: n}}
	}
	return boottrace.Run{Kind: boottrace.Traced, Until: boottrace.UntilOutput, ReadyNanos: 1000 * us, IOTotal: 9, IO: []boottrace.Request{
		{Op: "read", Offset: 0, Length: 4096, StartNanos: 100 * us, Nanos: 100 * us, Parts: data("/a", 0, 8192)},
		{Op: "read", Offset: 2048, Length: 4096, StartNanos: 150 * us, Nanos: 100 * us, Parts: data("/a", 4096, 8192)},
		{Op: "failed read", Offset: 1 << 20, Length: 4096, StartNanos: 300 * us, Nanos: 50 * us, Parts: data("/bad", 0, 4096)},
		{Op: "write", Disk: 1, Offset: 0, Length: 512, StartNanos: 400 * us, Nanos: 10 * us},
		{Op: "flush", Disk: 1, StartNanos: 410 * us, Nanos: 10 * us},
		{Op: "read", Disk: 1, Offset: 0, Length: 4096, StartNanos: 950 * us, Nanos: 100 * us, Parts: []boottrace.Part{{What: "disk", Length: 4096}}},
		{Op: "read", Offset: 8192, Length: 4096, StartNanos: 1001 * us, Nanos: 500 * us, Parts: data("/late", 0, 4096)},
		{Op: "unfinished read", Offset: 8192, Length: 4096, StartNanos: 1002 * us, Nanos: 500 * us},
	}}
}

func TestDiskUseTraced(t *testing.T) {
	r := &boottrace.Recording{Image: "x", Runs: []boottrace.Run{{Kind: boottrace.Timed, ReadyNanos: 900_000}, tracedRun()}}
	got := NewDiskUse(r)
	got.Slowest = nil
	want := &DiskUse{
		Requests: 6, Reads: 3, Later: 2, Dropped: 1, Failed: 1, ReadBytes: 3 * 4096, WroteBytes: 512, DistinctBytes: 6144 + 4096, ContentBytes: 12288 + 4096,
		Amplification: new(0.75), BusyMS: new(0.150 + 0.050 + 0.020 + 0.050), LatencyMS: new(0.370), Share: new(0.270),
		Files: []FileUse{
			{Path: "/a", What: "data", Requests: 2, Bytes: 12288, LatencyMS: new(0.2)},
			{Path: "/bad", What: "data", Requests: 1, LatencyMS: new(0.05)},
			{What: "disk", Requests: 1, Bytes: 4096, LatencyMS: new(0.1)},
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 })); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	var b bytes.Buffer
	if err := WriteTable(&b, r, nil, Style{}); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"disk          3 reads, 12 KiB in 0.27 ms (27.0 % of the boot), amplification 0.75; most from /a; 1 failed",
		"requests that the disk did not do: 1", "requests when it was ready, which are not in these figures: 2", "requests that were not recorded: 1",
	} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("the table has no line %q\n%s", line, b.String())
		}
	}
	b.Reset()
	if err := WriteTrace(&b, r, nil); err != nil {
		t.Fatal(err)
	}
	for _, event := range []string{`"name":"failed read /bad"`, `"name":"read /late"`, `"name":"unfinished read"`, `"boot with its disk requests`} {
		if !strings.Contains(b.String(), event) {
			t.Errorf("the trace has no %s\n%s", event, b.String())
		}
	}
	b.Reset()
	if ok, err := WriteLayout(&b, r); !ok || err != nil || b.String() != "/a\t0\t12288\n/late\t0\t4096\n" {
		t.Errorf("the layout is %v, %v\n%s", ok, err, b.String())
	}
}
