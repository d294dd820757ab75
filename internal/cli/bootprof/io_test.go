package bootprof

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/cli/imgbuild"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/rofs"
)

// readsImage builds an image of testdata/apps/reads.c, which reads the files called first, with others of which it reads none.
func readsImage(t *testing.T, flags ...string) string {
	t.Helper()
	needs.Tool(t, "cc", "gcc")
	dir := filepath.Join(t.TempDir(), "app")
	random := rand.New(rand.NewPCG(1, 2))
	for name, size := range map[string]int{"a": 200_000, "b": 300_001, "c": 150_000, "d": 250_000, "idle": 400_000, "etc/e": 220_000, "small": 10} {
		data := make([]byte, size) // half of it compresses
		for i := range len(data) / 2 {
			data[i] = byte(random.Uint32())
		}
		for i := len(data) / 2; i < len(data); { // no cluster is another's
			i += copy(data[i:], fmt.Sprintf("%s and so on, %d. ", name, i))
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if msg, err := exec.Command("cc", "-static", "-O1", "-o", filepath.Join(dir, "reads"), "testdata/apps/reads.c").CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, msg)
	}
	img := filepath.Join(t.TempDir(), "reads.img")
	var out bytes.Buffer
	if code := imgbuild.Main(append(flags, "-o", img, dir), &out, &out); code != 0 {
		t.Fatalf("imgbuild: exit code %d\n%s", code, out.String())
	}
	return img
}

// rootExtents returns what an image's root holds, by path, and where on the disk it begins.
func rootExtents(t *testing.T, path string) (map[string][]rofs.Extent, int64) {
	t.Helper()
	img, err := image.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	root, _ := img.Partition(image.PartRoot)
	f, err := rofs.Open(root, root.Size())
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]rofs.Extent)
	if err := f.Extents(func(e rofs.Extent) { all[e.Path] = append(all[e.Path], e) }); err != nil {
		t.Fatal(err)
	}
	for _, p := range img.Partitions() {
		if p.Name == image.PartRoot {
			return all, p.Offset
		}
	}
	t.Fatal("no root")
	return nil, 0
}

// covered tells whether ranges cover all from a byte up to another.
func covered(ranges [][2]uint64, from, to uint64) bool {
	slices.SortFunc(ranges, func(a, b [2]uint64) int { return int(int64(a[0]) - int64(b[0])) })
	for _, r := range ranges {
		if r[0] <= from && r[1] > from {
			from = r[1]
		}
	}
	return from >= to
}

// TestIO boots an app that reads files in an order that is known. The file system's own reader says where they are, and the kernel
// how much it read.
func TestIO(t *testing.T) {
	needQEMU(t)
	for name, flags := range map[string][]string{"raw": nil, "lz4": {"--compress"}, "small clusters": {"--compress", "--cluster-size=4096"}} {
		t.Run(name, func(t *testing.T) {
			img := readsImage(t, flags...)
			order := []string{"/c", "/a", "/d", "/etc/e", "/b"}
			code, o, stderr := boot(t, append([]string{img, "--io", "--memory", "32M", "--until", "exit", "--"}, order...)...)
			if code != 0 || stderr != "" || o == nil || o.IO == nil {
				t.Fatalf("exit code %d, %+v\n%s", code, o, stderr)
			}
			rec, err := boottrace.Open(o.Files[0])
			if err != nil {
				t.Fatal(err)
			}
			extents, start := rootExtents(t, img)
			info, err := os.Stat(img)
			if err != nil {
				t.Fatal(err)
			}
			for _, run := range rec.Runs {
				if run.Kind == boottrace.Timed {
					if len(run.IO) > 0 {
						t.Error("a timed boot was disturbed by a trace")
					}
					continue
				}
				var length, lastNanos, lastInstructions uint64
				var disk [][2]uint64
				content := make(map[string][][2]uint64)
				for i, q := range run.IO {
					if q.Op != "read" || q.Disk != 0 || q.Length == 0 || q.Offset+q.Length > uint64(info.Size()) || len(q.Parts) == 0 {
						t.Errorf("%s: request %d is %+v", run.Kind, i, q)
					}
					switch {
					case run.Kind == boottrace.Traced && (q.Instructions != 0 || q.Nanos <= 0 || uint64(q.StartNanos) < lastNanos || q.StartNanos+q.Nanos > run.ExitNanos),
						run.Kind == boottrace.Counting && (q.StartNanos != 0 || q.Nanos != 0 || q.Instructions <= lastInstructions || q.Instructions > run.Instructions):
						t.Errorf("%s: request %d of a boot of %d ns and %d instructions is %+v", run.Kind, i, run.ExitNanos, run.Instructions, q)
					}
					lastNanos, lastInstructions = uint64(q.StartNanos+q.Nanos), q.Instructions // one at a time
					length += q.Length
					disk = append(disk, [2]uint64{q.Offset, q.Offset + q.Length})
					for _, p := range q.Parts {
						content[p.Path] = append(content[p.Path], [2]uint64{p.Offset, p.Offset + p.Length})
					}
				}
				// The requests' clock and that of the marks agree: the kernel mounts the root between two of them.
				times := run.MarkTimes()
				for i, m := range run.Marks {
					const slack = 10e6
					first := float64(run.IO[0].StartNanos)
					if run.Kind == boottrace.Traced && (m.ID == abi.MarkEntry && first < times[i]-slack || m.ID == abi.MarkRoot && first > times[i]+slack) {
						t.Errorf("the first request is at %.0f ns, and the mark %s at %.0f", first, m.Label(), times[i])
					}
				}
				if run.Guest == nil || run.Guest.DiskRequests != uint64(len(run.IO)) || run.Guest.DiskBytes != length || run.IOTotal != len(run.IO) {
					t.Errorf("%s: %d requests of %d bytes, %d in all; the kernel says %+v", run.Kind, len(run.IO), length, run.IOTotal, run.Guest)
				}
				for _, path := range order {
					for _, e := range extents[path[1:]] {
						if from := uint64(start + e.Offset); !covered(disk, from, from+uint64(e.Length)) {
							t.Errorf("%s: bytes %d to %d of the disk, of %s, were not read", run.Kind, from, from+uint64(e.Length), path)
						}
						if !covered(content[path], uint64(e.Start), uint64(e.Start+e.Size)) {
							t.Errorf("%s: bytes %d to %d of %s are in no part", run.Kind, e.Start, e.Start+e.Size, path)
						}
					}
				}
				if covered(content["/idle"], 0, 400_000) {
					t.Errorf("%s: all of a file was read that nobody asked for", run.Kind)
				}
			}

			u := o.IO
			if u.Amplification == nil || *u.Amplification < 0.4 || u.ContentBytes < 1_120_001 || u.DistinctBytes > u.ReadBytes || u.BusyMS == nil || u.Share == nil || *u.Share <= 0 || *u.Share >= 1 {
				t.Errorf("io is %+v", u)
			}
			code, layout, stderr := bootprof(t, "report", o.Files[0], "--format", "layout")
			if code != 0 {
				t.Fatalf("exit code %d\n%s", code, stderr)
			}
			var got []string
			for line := range strings.Lines(layout) {
				if path, _, _ := strings.Cut(line, "\t"); slices.Contains(order, path) && !slices.Contains(got, path) {
					got = append(got, path)
				}
			}
			if !slices.Equal(got, order) || !strings.HasPrefix(layout, "/reads\t0\t") {
				t.Errorf("the order of use is %q, want %q\n%s", got, order, layout)
			}
			_, table, _ := bootprof(t, "report", o.Files[0])
			if line := regexp.MustCompile(`(?m)^disk +\d+ reads, [0-9.]+ MiB in [0-9.]+ ms \([0-9.]+ % of the boot\), amplification [0-9.]+; most from /reads`); !line.MatchString(table) {
				t.Errorf("the table has no line like %s\n%s", line, table)
			}
			_, trace, _ := bootprof(t, "report", o.Files[0], "--format", "perfetto")
			_, folded, _ := bootprof(t, "report", o.Files[0], "--format", "folded", "--metric", "io")
			if !strings.Contains(trace, `"cat":"disk"`) || !strings.Contains(trace, `"name":"read /c`) || !strings.Contains(folded, "disk;/etc/e ") {
				t.Errorf("the trace or the folded stacks have no /etc/e\n%s", folded)
			}
		})
	}
}

// TestIOLayoutAgain records an image twice: the order of use does not depend on the clock.
func TestIOLayoutAgain(t *testing.T) {
	img := readsImage(t, "--compress")
	var layouts []string
	var again func() (code int, layout, stderr string)
	for range 2 {
		code, o, stderr := boot(t, img, "--io", "-n", "0", "--", "/b", "/a")
		if code != 0 {
			t.Fatalf("exit code %d\n%s", code, stderr)
		}
		again = func() (int, string, string) { return bootprof(t, "report", o.Files[0], "--format", "layout") }
		_, layout, _ := again()
		layouts = append(layouts, layout)
	}
	if code, layout, stderr := again(); code != 0 || layout != layouts[1] || stderr != "" {
		t.Errorf("exit code %d\n%s\n%s", code, layout, stderr)
	}
	// Another image of the same name.
	data, err := os.ReadFile(readsImage(t))
	if err == nil {
		err = os.WriteFile(img, data, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	if code, layout, stderr := again(); code != 0 || layout != layouts[1] || !strings.Contains(stderr, "has changed") {
		t.Errorf("of another image: exit code %d\n%s\n%s", code, layout, stderr)
	}
	if layouts[0] != layouts[1] || layouts[0] == "" {
		t.Errorf("two recordings have the layouts\n%s\n%s", layouts[0], layouts[1])
	}
}

// TestIONone boots guests that have no disk, and that do not use theirs.
func TestIONone(t *testing.T) {
	kernel := guest(t)
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		says string
		io   bool
	}{
		{nil, "the guest has no disk", false},
		{[]string{"--disk", disk}, "", true},
	} {
		code, o, stderr := boot(t, append([]string{"--kernel", kernel, "--io"}, tt.args...)...)
		if code != 0 || !strings.Contains(stderr, tt.says) || tt.says == "" && stderr != "" || (o.IO != nil) != tt.io {
			t.Fatalf("%v: exit code %d, io %+v\n%s", tt.args, code, o.IO, stderr)
		}
		code, _, stderr = bootprof(t, "report", o.Files[0], "--format", "layout")
		if code != 2 || !strings.Contains(stderr, "--io") {
			t.Errorf("%v: report --format layout: exit code %d\n%s", tt.args, code, stderr)
		}
		if !tt.io {
			continue
		}
		if o.IO.Requests != 0 || o.IO.ReadBytes != 0 || o.IO.Amplification != nil {
			t.Errorf("%v: io %+v", tt.args, o.IO)
		}
		if _, table, _ := bootprof(t, "report", o.Files[0]); !strings.Contains(table, "disk          no requests") {
			t.Errorf("%v: the table says\n%s", tt.args, table)
		}
	}
}

// TestMapDisk maps a disk that changes.
func TestMapDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	for _, change := range []func() error{
		func() error { return os.Truncate(path, 4096) },
		func() error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) },
		func() error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.WriteFile(path, make([]byte, 8192), 0o666)
		},
		func() error { return os.Remove(path) },
	} {
		if err := os.WriteFile(path, make([]byte, 8192), 0o666); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := mapDisk(path, info); err != nil || len(m.Parts(0, 1)) != 1 {
			t.Errorf("before a change: %v", err)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if m, err := mapDisk(path, info); err == nil || m != nil {
			t.Error("a change was not noticed")
		}
	}
}

// TestIONoTrace has a QEMU that writes no trace: only --io needs one.
func TestIONoTrace(t *testing.T) {
	needQEMU(t)
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	img := readsImage(t)
	t.Setenv(qemu.EnvBinary, script(t, `n=$#
while [ $n -gt 0 ]; do
	n=$((n - 1))
	case $1 in
	-trace | -D) shift; n=$((n - 1)) ;;
	*) set -- "$@" "$1" ;;
	esac
	shift
done
exec `+path+` "$@"
`))
	code, _, stderr := boot(t, img, "--io", "--", "/a")
	if code != exitHost || !strings.Contains(stderr, "log backend") {
		t.Errorf("--io: exit code %d\n%s", code, stderr)
	}
	if code, o, stderr := boot(t, img, "--profile=exact", "--", "/a"); code != 0 || o.IO != nil {
		t.Errorf("--profile=exact: exit code %d, io %+v\n%s", code, o.IO, stderr)
	}
}

// TestIODiskError has a disk with a bad sector in a file that the app reads.
func TestIODiskError(t *testing.T) {
	needQEMU(t)
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	img := readsImage(t)
	extents, start := rootExtents(t, img)
	bad := start + extents["d"][1].Offset
	t.Setenv(qemu.EnvBinary, script(t, fmt.Sprintf(`for arg; do
	shift
	case $arg in
	*node-name=disk0*) arg=$(echo "$arg" | sed 's/file.driver=file,file.filename=/file.driver=blkdebug,file.inject-error.0.event=read_aio,file.inject-error.0.sector=%d,file.image.driver=file,file.image.filename=/') ;;
	esac
	set -- "$@" "$arg"
done
exec %s "$@"
`, bad/512, path)))
	_, o, stderr := boot(t, img, "--io", "--", "/a", "/d")
	if o == nil || o.IO == nil || o.IO.Failed == 0 {
		t.Fatalf("%+v\n%s", o, stderr)
	}
	rec, err := boottrace.Open(o.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range rec.Of(boottrace.Traced) {
		for _, q := range run.IO {
			hit := q.Offset <= uint64(bad) && q.Offset+q.Length > uint64(bad)
			if (q.Op == "failed read") != hit || q.Op != "read" && q.Op != "failed read" {
				t.Errorf("%+v; the bad sector is at %d", q, bad)
			}
		}
	}
	_, table, _ := bootprof(t, "report", o.Files[0])
	_, trace, _ := bootprof(t, "report", o.Files[0], "--format", "perfetto")
	if !strings.Contains(table, " failed\n") || !strings.Contains(table, "that the disk did not do: ") || !strings.Contains(trace, `"name":"failed read `) {
		t.Errorf("the table says\n%s", table)
	}
}
