//go:build !race

// What foreign programs say of bytes is the same with the race detector, which makes them wait for it.

package zfsmod

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/tree"
)

// tool makes a command of a program of scripts/zfs-tools, which brings its libraries.
func tool(t testing.TB, folder, program string, args ...string) *exec.Cmd {
	t.Helper()
	root, err := filepath.Abs("../out/zfs/" + folder)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, program)
	if _, err := os.Stat(path); err != nil {
		needs.Missing(t, "../out/zfs/"+folder+" is not there: scripts/zfs-tools")
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+root+"/lib/x86_64-linux-gnu:"+root+"/usr/lib/x86_64-linux-gnu", "TZ=UTC")
	return cmd
}

func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// pool writes a pool called name to a file of its own folder.
func poolFile(t testing.TB, c Config, tr *tree.Tree, codec string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "pool.img")
	if err := os.WriteFile(img, fsmodtest.Write(t, c.Module(), tr, fsmod.Options{Codec: codec}), 0o600); err != nil {
		t.Fatal(err)
	}
	return img
}

// zdb has OpenZFS examine every structure of a pool.
func zdb(t testing.TB, img, name string) {
	t.Helper()
	run := func(args ...string) string { return output(t, tool(t, "zdb", "sbin/zdb", args...)) }
	if out := run("-l", img); !strings.Contains(out, "labels = 0 1 2 3") {
		t.Errorf("zdb -l does not find four labels that are the same:\n%s", out)
	}
	dir := filepath.Dir(img)
	out := run("-e", "-p", dir, name, "-bcc")
	if !strings.Contains(out, "No leaks (block sum matches space maps exactly)") || strings.Contains(out, "error") {
		t.Errorf("zdb -bcc:\n%s", out)
	}
	out = run("-e", "-p", dir, name, "-dddd", "-m", "-u")
	if !strings.Contains(out, "Dataset "+name+" [ZPL]") || !strings.Contains(out, "magic = 0000000000bab10c") {
		t.Errorf("zdb -dddd -m -u lists no file system or no uberblock:\n%.2000s", out)
	}
}

// grub has GRUB list the root of a pool's file system and read its files.
func grub(t testing.TB, img string, tr *tree.Tree) {
	t.Helper()
	run := func(args ...string) string {
		return output(t, tool(t, "grub", "usr/bin/grub-fstest", append([]string{img}, args...)...))
	}
	got := " " + strings.Join(strings.Fields(run("ls", "(loop0)/@/")), " ") + " "
	local := filepath.Join(t.TempDir(), "file")
	for i := range tr.Entries {
		e := &tr.Entries[i]
		// GRUB's words for files are no place for blanks, quotes and the like.
		if strings.ContainsAny(e.Path, " \t\n\"'\\$(){}|&;<>*?,") {
			continue
		}
		if !strings.Contains(e.Path, "/") && e.Path != "." && !strings.Contains(got, " "+e.Path+" ") && !strings.Contains(got, " "+e.Path+"/ ") {
			t.Errorf("GRUB does not list %q", e.Path)
		}
		if !e.Mode.IsRegular() || e.HardLink != "" || e.Size == 0 {
			continue
		}
		if err := os.WriteFile(local, []byte(fsmodtest.Content(t, e)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := run("cmp", "(loop0)/@/"+e.Path, local); out != "" {
			t.Errorf("GRUB reads something else of %q: %s", e.Path, out)
		}
	}
}

func TestJudges(t *testing.T) {
	tr := fsmodtest.Awkward(t, fsmodtest.All)
	for _, tt := range []struct{ compat, codec string }{
		{"openzfs-2.1", "lz4"}, {"openzfs-2.1", "none"}, {"osv", "lz4"}, {"freebsd9", "gzip"}, {"freebsd9", "lzjb"},
		{"legacy-23", "lzjb"}, {"legacy-23", "zle"},
	} {
		t.Run(tt.compat+"/"+tt.codec, func(t *testing.T) {
			t.Parallel()
			img := poolFile(t, Config{Compat: tt.compat, Pool: "p"}, tr, tt.codec)
			zdb(t, img, "p")
			grub(t, img, tr)
		})
	}
}

// A fuse is a running zfs-fuse.
type fuse struct {
	t    testing.TB
	stop func() // ends it; further calls do nothing
}

// A zfs-fuse that is asked for something and uses less CPU time than fuseIdle in fuseStill hangs: while it waits in vain that is some
// 16 ms, and at work over a second, also where it gets but a twentieth of a CPU.
const (
	fuseStill = 30 * time.Second
	fuseIdle  = 100 * time.Millisecond
	fuseTries = 6
)

const (
	fuseHung  = "zfs-fuse hangs"
	fuseInner = "FIRSTLIGHT_ZFS_INNER"
)

// inner reports whether the test is to run here. Else it has run, in a process of its own: now and then threads of zfs-fuse wait for
// each other for ever, also on pools that are all its own. The test then begins anew, a few times; what else goes wrong ends it.
func inner(t *testing.T) bool {
	t.Helper()
	if os.Getenv(fuseInner) != "" {
		return true
	}
	for try := 1; ; try++ {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), fuseInner+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		switch {
		case err == nil && bytes.Contains(out, []byte("--- SKIP")):
			t.Skipf("%s", out)
		case err == nil && bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")):
			return false
		case try == fuseTries || !bytes.Contains(out, []byte(fuseHung)):
			t.Fatalf("try %d: %v\n%s", try, err, out)
		}
		t.Logf("try %d: %s", try, fuseHung)
	}
}

// release takes away the mounts of a zfs-fuse that is gone; there can be only one.
func release(t testing.TB) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Error(err)
	}
	lines := strings.Split(string(mounts), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if f := strings.Fields(lines[i]); len(f) > 2 && f[2] == "fuse.zfs" {
			if err := syscall.Unmount(f[1], syscall.MNT_DETACH); err != nil {
				t.Errorf("%s: %v", f[1], err)
			}
		}
	}
}

// cpuTime returns the CPU time that a process has used, by proc_pid_stat(5) in hundredths of a second.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from field 3 on
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f)+2)
	}
	user, err := strconv.Atoi(f[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond, err
}

// waitHung waits until a process stands still, or until done is closed, and reports whether it stands still. It looks ten times, so
// that a pause of the whole machine counts as one look only.
func waitHung(pid int, done <-chan struct{}) bool {
	tick := time.NewTicker(fuseStill / 10)
	defer tick.Stop()
	var since time.Duration
	for still := 0; still < 10; {
		select {
		case <-done:
			return false
		case <-tick.C:
		}
		now, err := cpuTime(pid)
		if err != nil {
			return false
		}
		if still++; now-since >= fuseIdle {
			still, since = 0, now
		}
	}
	return true
}

// startFuse starts zfs-fuse, which ends with the test at the latest.
func startFuse(t testing.TB, options ...string) fuse {
	t.Helper()
	if os.Getuid() != 0 {
		needs.Missing(t, "zfs-fuse mounts for root only")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		needs.Missing(t, "there is no /dev/fuse")
	}
	if tool(t, "fuse", "sbin/zpool", "list").Run() == nil {
		needs.Missing(t, "another zfs-fuse runs on this machine, and there can be only one: end it")
	}
	cmd := tool(t, "fuse", "sbin/zfs-fuse", append([]string{"-n", "--no-kstat-mount"}, options...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // one that stays behind is in the way of the next
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var end error
	go func() {
		end = cmd.Wait()
		close(ended)
	}()
	stopping, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		if waitHung(cmd.Process.Pid, stopping) {
			fmt.Println(fuseHung)
			cmd.Process.Kill() // whoever waits for one of its files then gets an error
			release(t)
		}
	}()
	f := fuse{t, sync.OnceFunc(func() {
		close(stopping)
		<-watched
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
	})}
	t.Cleanup(f.stop)
	// It answers as soon as it can.
	for tool(t, "fuse", "sbin/zpool", "list").Run() != nil {
		select {
		case <-ended:
			t.Fatalf("zfs-fuse ended: %v\n%s", end, log.Bytes())
		default:
		}
	}
	return f
}

// export has zfs-fuse export its last pool and end.
func (f fuse) export(name string) {
	f.t.Helper()
	f.zpool("export", name)
	f.stop()
}

func (f fuse) zpool(args ...string) string {
	f.t.Helper()
	return output(f.t, tool(f.t, "fuse", "sbin/zpool", args...))
}

func (f fuse) zfs(args ...string) string {
	f.t.Helper()
	return output(f.t, tool(f.t, "fuse", "sbin/zfs", args...))
}

// scrub has the pool check all of itself.
func (f fuse) scrub(name string) {
	f.t.Helper()
	f.zpool("scrub", name)
	deadline := time.Now().Add(time.Minute)
	for {
		s := f.zpool("status", name)
		if strings.Contains(s, "scrub completed") {
			if !strings.Contains(s, "with 0 errors") || !strings.Contains(s, "No known data errors") {
				f.t.Errorf("scrub:\n%s", s)
			}
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: scrub does not end:\n%s", fuseHung, s)
		}
	}
}

// mounted reads a mounted file system.
func mounted(t testing.TB, dir string) *tree.Tree {
	t.Helper()
	tr, err := tree.FromDir(context.Background(), dir, tree.Options{Devices: true, KeepOwner: true})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// forget is what zfs-fuse does not show: extended attributes, and parts of seconds.
func forget(e *tree.Entry) {
	e.Xattrs = nil
	e.ModTime = e.ModTime.Truncate(time.Second)
}

// TestFuse has a whole ZFS mount what was written, change it, and leave it for the reader.
func TestFuse(t *testing.T) {
	if !inner(t) {
		return
	}
	tr := fsmodtest.Awkward(t, fsmodtest.All)
	img := poolFile(t, Config{Compat: "legacy-23", Pool: "flfuse", Free: 32 << 20}, tr, "lzjb")
	f := startFuse(t)
	alt := t.TempDir()
	f.zpool("import", "-d", filepath.Dir(img), "-R", alt, "flfuse")
	root := filepath.Join(alt, "flfuse")
	imported := true
	defer func() {
		if imported {
			tool(t, "fuse", "sbin/zpool", "export", "-f", "flfuse").Run()
		}
	}()
	fsmodtest.Compare(t, mounted(t, root), tr, forget)
	for i := range 500 {
		if err := os.WriteFile(filepath.Join(root, fmt.Sprint("new", i)), bytes.Repeat([]byte{byte(i)}, i*100), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	f.zfs("snapshot", "flfuse@later")
	for i := range 250 {
		if err := os.Remove(filepath.Join(root, fmt.Sprint("new", i*2))); err != nil {
			t.Fatal(err)
		}
	}
	f.scrub("flfuse")
	want := mounted(t, root)
	loadAll(t, want)
	f.export("flfuse")
	imported = false
	zdb(t, img, "flfuse")
	o, close := openFile(t, img)
	defer close()
	fsmodtest.Compare(t, o.Tree, want, forget)
	list, err := o.Pool.Datasets()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[1].Name != "flfuse@later" || !list[1].Snapshot {
		t.Fatalf("%+v", list)
	}
	entries, err := Entries(o.Pool, list[1], ".")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(tr.Entries)+500 {
		t.Errorf("the snapshot has %d entries, not %d", len(entries), len(tr.Entries)+500)
	}
}

// loadAll keeps the content of a tree's files in memory.
func loadAll(t testing.TB, tr *tree.Tree) {
	t.Helper()
	for i := range tr.Entries {
		if e := &tr.Entries[i]; e.Mode.IsRegular() && e.Source != nil {
			e.Source = fsmodtest.Text(fsmodtest.Content(t, e))
		}
	}
}

func openFile(t testing.TB, img string) (*FileSystem, func()) {
	t.Helper()
	r, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	i, err := r.Stat()
	if err != nil {
		t.Fatal(err)
	}
	o, err := Open(r, i.Size())
	if err != nil {
		t.Fatal(err)
	}
	return o, func() { r.Close() }
}

var _ fs.FS = (*FileSystem)(nil)

// TestDatasets has several file systems in a pool.
func TestDatasets(t *testing.T) {
	if !inner(t) {
		return
	}
	a := fsmodtest.File("srv/a", "in the dataset", 0o600)
	name := func(path string) tree.Entry {
		e := a
		e.Path, e.HardLink, e.Source = path, a.Path, nil
		return e
	}
	tr, err := tree.New(tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, tree.Entry{Path: "srv", Mode: fs.ModeDir | 0o700},
		a, fsmodtest.File("top", "in the pool", 0o644), name("srv/again"), name("twice"))
	if err != nil {
		t.Fatal(err)
	}
	props := map[string]string{"mountpoint": "/", "canmount": "noauto", "org:note": "hello"}
	c := Config{Compat: "legacy-23", Pool: "osv", Bootfs: "osv/data", Datasets: []Dataset{
		{Name: "osv", Properties: props}, {Name: "osv/data", Path: "/srv", Properties: map[string]string{"mountpoint": "/srv", "compression": "gzip-9"}},
		{Name: "osv/data/empty"},
	}}
	img := poolFile(t, c, tr, "lzjb")
	o, close := openFile(t, img)
	defer close()
	list, err := o.Pool.Datasets()
	if err != nil || len(list) != 3 || list[1].Name != "osv/data" || list[1].Props["mountpoint"] != "/srv" || list[0].Props["org:note"] != "hello" {
		t.Errorf("%+v, %v", list, err)
	}
	if b, err := o.Pool.Bootfs(); err != nil || b != "osv/data" {
		t.Errorf("bootfs %q, %v", b, err)
	}
	for name, want := range map[string]string{"srv/a": "in the dataset", "srv/again": "in the dataset", "twice": "in the dataset", "top": "in the pool"} {
		if b, err := fs.ReadFile(o, name); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if _, err := fs.Stat(o, "srv/empty"); err != nil {
		t.Error(err)
	}
	zdb(t, img, "osv")
	f := startFuse(t)
	f.zpool("import", "-d", filepath.Dir(img), "-R", t.TempDir(), "osv")
	defer f.export("osv")
	if got := f.zfs("get", "-H", "-o", "name,property,value", "mountpoint,canmount,compression,org:note", "osv/data", "osv"); !strings.Contains(got, "osv/data\tcompression\tgzip-9") || !strings.Contains(got, "osv\tcanmount\tnoauto") || !strings.Contains(got, "osv\torg:note\thello") {
		t.Error(got)
	}
	if got := f.zpool("get", "bootfs", "osv"); !strings.Contains(got, "osv/data") {
		t.Error(got)
	}
}

func TestConfigErrors(t *testing.T) {
	tr, err := tree.New(tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, fsmodtest.File("f", "f", 0o644))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		c    Config
		says string
	}{
		{Config{Compat: "solaris"}, "openzfs-2.1"},
		{Config{Ashift: 8}, "ashift 8"},
		{Config{Pool: "1st"}, "is no name"},
		{Config{Bootfs: "firstlight/x"}, "no dataset"},
		{Config{Datasets: []Dataset{{Name: "firstlight/a/b"}}}, "firstlight/a"},
		{Config{Datasets: []Dataset{{Name: "firstlight/a", Path: "f"}}}, "not there"},
		{Config{Datasets: []Dataset{{Name: "firstlight", Properties: map[string]string{"canmount": "maybe"}}}}, "noauto"},
		{Config{Datasets: []Dataset{{Name: "firstlight", Properties: map[string]string{"colour": "red"}}}}, "colour"},
		{Config{Datasets: []Dataset{{Name: "firstlight", Properties: map[string]string{"mountpoint": "here"}}}}, "begins with /"},
		{Config{Size: 1 << 20}, "needs 67108864 bytes"},
	} {
		_, err := tt.c.Write(t.Context(), &fsmodtest.Memory{}, tr, fsmod.Options{})
		if !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v, want %q", tt.c, err, tt.says)
		}
	}
}

// TestOptions has options of all modules honoured or refused, not ignored.
func TestOptions(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 8<<10)
	tr, err := tree.New(tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, fsmodtest.File("f", content, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	all := func(string) bool { return true }
	for says, o := range map[string]fsmod.Options{
		"a level of \"lz4\"":    {Codec: "lz4", Level: 2},
		"a level of \"\"":       {Level: 2},
		"1 to 9":                {Codec: "gzip", Level: 10},
		"cluster size 262144":   {ClusterSize: 256 << 10},
		"cluster size 5000":     {ClusterSize: 5000},
		"cluster size -512":     {ClusterSize: -512},
		"files stored raw, hot": {Raw: all},
		"in the order of a":     {Layout: []fsmod.Use{{Path: "f", Length: 1}}},
		"property compression":  {Hot: all},
	} {
		if _, err := (Config{}).Write(t.Context(), &fsmodtest.Memory{}, tr, o); !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	img := filepath.Join(t.TempDir(), "pool.img")
	if err := os.WriteFile(img, fsmodtest.Write(t, Config{}.Module(), tr, fsmod.Options{Codec: "lz4", ClusterSize: 16 << 10}), 0o644); err != nil {
		t.Fatal(err)
	}
	zdb(t, img, "firstlight")
	got := output(t, tool(t, "zdb", "sbin/zdb", "-e", "-p", filepath.Dir(img), "-dd", "firstlight/"))
	if !regexp.MustCompile(`(?m) 16K .* 128K .* ZFS plain file$`).MatchString(got) {
		t.Errorf("zdb -dd: the file is not one of 128K in records of 16K:\n%s", got)
	}
	if got = output(t, tool(t, "zdb", "sbin/zdb", "-e", "-p", filepath.Dir(img), "-dddd", "firstlight")); !strings.Contains(got, "recordsize = 16384") {
		t.Error("zdb -dddd: the property recordsize is not 16384")
	}
}

// sparse is the content of a file of zeros but for a text at some places.
type sparse struct {
	size  int64
	texts map[int64]string
	at    int64
}

func (s *sparse) Read(p []byte) (int, error) {
	n := int(min(int64(len(p)), s.size-s.at))
	if n == 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	for at, text := range s.texts {
		if from := at - s.at; from < int64(n) && from+int64(len(text)) > 0 {
			copy(p[max(from, 0):n], text[max(-from, 0):])
		}
	}
	s.at += int64(n)
	return n, nil
}

// TestLarge has what makes tables and trees of blocks grow, stored in every way that a property can ask for.
func TestLarge(t *testing.T) {
	entries := []tree.Entry{{Path: ".", Mode: fs.ModeDir | 0o755}}
	var paths []string
	for _, props := range []string{"a", "b", "c"} {
		entries = append(entries, tree.Entry{Path: props, Mode: fs.ModeDir | 0o755})
		holes := fsmodtest.File(props+"/holes", "", 0o644)
		holes.Size = 300<<20 + 1
		holes.Source = func() (io.ReadCloser, error) {
			return io.NopCloser(&sparse{size: holes.Size, texts: map[int64]string{0: "start", 77<<20 - 2: "over two blocks", 300<<20 - 4: "the end."[:5]}}), nil
		}
		noise := make([]byte, 20<<20)
		rnd := rand.NewChaCha8([32]byte{1})
		rnd.Read(noise)
		entries = append(entries, holes, fsmodtest.File(props+"/noise", string(noise), 0o600))
		paths = append(paths, props+"/holes", props+"/noise")
	}
	entries = append(entries, tree.Entry{Path: "many", Mode: fs.ModeDir | 0o755})
	for i := range 20_000 {
		entries = append(entries, fsmodtest.File(fmt.Sprintf("many/file number %d", i), "", 0o644))
	}
	tr, err := tree.New(entries...)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Pool: "large", Ashift: 12, Datasets: []Dataset{
		{Name: "large/a", Path: "a", Properties: map[string]string{"checksum": "sha256", "compression": "gzip-9", "recordsize": "16384"}},
		{Name: "large/b", Path: "b", Properties: map[string]string{"copies": "3", "compression": "off"}},
		{Name: "large/c", Path: "c", Properties: map[string]string{"checksum": "fletcher2", "compression": "zle"}},
	}}
	img := filepath.Join(t.TempDir(), "pool.img")
	w, err := os.Create(img)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Write(t.Context(), w, tr, fsmod.Options{Codec: "lz4"})
	if err == nil {
		err = w.Truncate(res.Bytes)
	}
	if cerr := w.Close(); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	zdb(t, img, "large")
	o, close := openFile(t, img)
	defer close()
	if len(o.Entries) != len(tr.Entries) {
		t.Errorf("%d entries come back, not %d", len(o.Entries), len(tr.Entries))
	}
	for _, path := range paths {
		if !equal(t, o.Lookup(path), tr.Lookup(path)) {
			t.Errorf("%s is not what it was", path)
		}
	}
}

// equal compares the contents of two files.
func equal(t *testing.T, a, b *tree.Entry) bool {
	t.Helper()
	sum := func(e *tree.Entry) (s [32]byte) {
		r, err := e.Source()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		h := sha256.New()
		if _, err := io.Copy(h, r); err != nil {
			t.Fatal(err)
		}
		return [32]byte(h.Sum(nil))
	}
	return a != nil && b != nil && a.Size == b.Size && sum(a) == sum(b)
}
