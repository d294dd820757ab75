package profile

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// TestMemoryAtReady is a recording with a timed boot, and a counting one of which the first touch of each page is known.
func TestMemoryAtReady(t *testing.T) {
	counting := boottrace.Run{
		Kind: boottrace.Counting, Until: boottrace.UntilExit, Instructions: 900, TouchedBytes: 6 << 20,
		Marks:   []boottrace.Mark{{ID: 1, Instructions: 100}, {ID: 7, Name: boottrace.InitcallPrefix + "x", Instructions: 150}, {ID: 6, Instructions: 800}},
		Regions: []boottrace.Region{{Name: "kernel text", TouchedBytes: 5 << 20, First: []boottrace.Toucher{{Function: "a/b/c.d", Bytes: 4 << 20}, {Function: "e", Bytes: 1 << 19}, {Function: "f", Bytes: 1}}, OverTime: []uint64{1 << 20, 3 << 19, 2 << 20, 3 << 20}}, {Name: "other", TouchedBytes: 1 << 20}},
		Guest:   &boottrace.Guest{Owners: []boottrace.OwnedPages{{Name: "free", Pages: 256}, {Name: "kernel heap", Pages: 768}}},
		Memory: &boottrace.Memory{
			ReadyBytes: 4 << 20, Ready: []boottrace.Region{{Name: "kernel text", TouchedBytes: 4 << 20}},
			OverTime: []boottrace.Touched{{Bytes: 1 << 20}, {Instructions: 100, Bytes: 2 << 20}, {Instructions: 700, Bytes: 3 << 20}, {Instructions: 900, Bytes: 4 << 20}},
		},
	}
	rec := &boottrace.Recording{Runs: []boottrace.Run{
		{Kind: boottrace.Timed, Until: boottrace.UntilExit, ReadyNanos: 1e6, TouchedBytes: 7 << 20, Regions: []boottrace.Region{{Name: "other", TouchedBytes: 7 << 20}}},
		counting,
	}}
	var b bytes.Buffer
	if err := WriteTable(&b, rec, nil, Style{Width: 80}); err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(b.String(), "\nmemory  pages")
	want := ` of the guest that were touched, of one counting boot
  at the end      %    at ready  for
       5 MiB   83.3       4 MiB  kernel text, first by c.d 4 MiB, e 512 KiB
       1 MiB   16.7         0 B  other
       6 MiB  100.0       4 MiB  all
         0 B    0.0  of them full of zeros
         0 B    0.0  of them equal to another page

memory over time  touched by the time of these marks, by what it was for in the end
      entry        end  for
    1.5 MiB      2 MiB  kernel text
      2 MiB      3 MiB  all

RAM  by the kernel's own account, at its last mark
       1 MiB   25.0  free
       3 MiB   75.0  kernel heap
       4 MiB  100.0  all that the loader's map names
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	rep := NewReport(rec, nil)
	if diff := cmp.Diff(counting.Memory.OverTime, rep.Touched); diff != "" {
		t.Errorf("over time (-want +got):\n%s", diff)
	}
	if m := rep.Memory; *m.TouchedBytes != 7<<20 || m.ReadyBytes != 4<<20 || !cmp.Equal(m.ReadyOwners, counting.Memory.Ready) || !cmp.Equal(m.Owners, counting.Regions) {
		t.Errorf("%+v", m)
	}
}
