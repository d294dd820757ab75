package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/firstlight-boot/firstlight/zfsmod"
)

// zfsTool makes a command of a program of scripts/zfs-tools, which brings its libraries.
func zfsTool(folder, program string, args ...string) *exec.Cmd {
	root, err := filepath.Abs("out/zfs/" + folder)
	if err != nil {
		root = "out/zfs/" + folder
	}
	cmd := exec.Command(filepath.Join(root, program), args...)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+root+"/lib/x86_64-linux-gnu:"+root+"/usr/lib/x86_64-linux-gnu")
	return cmd
}

// pools prints the figures of ZFS pools: images of the Go toolchain's own folder, made in turns with rofs and by a copy into a pool
// of zfs-fuse.
func (b *bench) pools() error {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	root := strings.TrimSpace(string(out))
	image, flat := filepath.Join(b.dir, "pool.img"), filepath.Join(b.dir, "rofs.img")
	stop, err := b.startFuse()
	if err != nil {
		fmt.Printf("zfs-fuse cannot be compared with: %v\n", err)
	} else {
		defer stop()
	}
	fuse := err == nil
	var x, y, z built
	for range b.runs {
		if err := x.build(image, []string{"bin/imgbuild", "--fs", "zfs", "--compress=lz4", "--no-kernel", "-q", "-o", image, root}); err != nil {
			return err
		}
		if err := y.build(flat, []string{"bin/imgbuild", "--rofs", "--compress", "--no-kernel", "-q", "-o", flat, root}); err != nil {
			return err
		}
		if fuse {
			if err := b.copyIn(&z, root); err != nil {
				return err
			}
		}
	}
	fmt.Printf("Pools of %s on %d cores, median (least to most) of %d runs in turns\n\n", root, runtime.GOMAXPROCS(0), b.runs)
	row := func(name, format string, args ...any) { fmt.Printf("%-15s %s\n", name, fmt.Sprintf(format, args...)) }
	row("zfs lz4", "%v", &x)
	row("rofs", "%v", &y)
	if fuse {
		row("zfs-fuse lzjb", "%6.2f s (%.2f to %.2f), %.2f MB", z.median(), slices.Min(z.seconds), slices.Max(z.seconds), float64(z.bytes)/1e6)
		row("÷ zfs-fuse", "time %s", against(x.median()/z.median(), 0.25))
	}
	row("÷ rofs", "time %s", against(x.median()/y.median(), 1.6))
	row("memory", "%s MB", against(float64(x.peak)/1e6, 150))
	if err := b.readPool(image); err != nil {
		return err
	}
	return b.beyondFiles()
}

// startFuse starts zfs-fuse; stop ends it.
func (b *bench) startFuse() (stop func(), err error) {
	if zfsTool("fuse", "sbin/zpool", "list").Run() == nil {
		return nil, errors.New("another zfs-fuse runs")
	}
	cmd := zfsTool("fuse", "sbin/zfs-fuse", "-n", "--no-kstat-mount")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: run scripts/zfs-tools, as root", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
	}
	for deadline := time.Now().Add(30 * time.Second); zfsTool("fuse", "sbin/zpool", "list").Run() != nil; {
		select {
		case err := <-ended:
			return nil, fmt.Errorf("zfs-fuse ended: %w: %s", err, log.Bytes())
		default:
		}
		if time.Now().After(deadline) {
			stop()
			return nil, errors.New("zfs-fuse does not answer")
		}
	}
	return stop, nil
}

// copyIn copies a folder into a new pool of zfs-fuse; what counts is the time of the copy and the export.
func (b *bench) copyIn(z *built, root string) error {
	img, at := filepath.Join(b.dir, "fuse.img"), filepath.Join(b.dir, "mounted")
	if err := errors.Join(os.WriteFile(img, nil, 0o600), os.Truncate(img, 1<<30), os.MkdirAll(at, 0o755)); err != nil {
		return err
	}
	command := func(cmd *exec.Cmd) error {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w: %s", cmd.Args, err, out)
		}
		return nil
	}
	if err := command(zfsTool("fuse", "sbin/zpool", "create", "-O", "compression=lzjb", "-R", at, "flbench", img)); err != nil {
		return err
	}
	start := time.Now()
	err := errors.Join(command(exec.Command("cp", "-r", root, at)), command(zfsTool("fuse", "sbin/zpool", "export", "flbench")))
	if err != nil {
		return err
	}
	z.seconds = append(z.seconds, time.Since(start).Seconds())
	st, err := os.Stat(img)
	if err != nil {
		return err
	}
	z.bytes = st.Sys().(*syscall.Stat_t).Blocks * 512
	return os.Remove(img)
}

// openPool opens the pool in a file, which the caller closes.
func openPool(image string) (r *os.File, f *zfsmod.FileSystem, err error) {
	if r, err = os.Open(image); err != nil {
		return nil, nil, err
	}
	st, err := r.Stat()
	if err == nil {
		f, err = zfsmod.Open(r, st.Size())
	}
	if err != nil {
		r.Close()
		return nil, nil, err
	}
	return r, f, nil
}

// readPool prints how fast all files of a pool are read on one core: of the time, and of the processor's, which a busy machine
// changes less.
func (b *bench) readPool(image string) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	r, f, err := openPool(image)
	if err != nil {
		return err
	}
	defer r.Close()
	buf := make([]byte, 32<<10)
	for _, how := range []struct {
		name string
		read func(name string) (int64, error)
	}{
		{"reads of 32 KiB", func(name string) (int64, error) {
			h, err := f.Open(name)
			if err != nil {
				return 0, err
			}
			defer h.Close()
			return io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{h}, buf)
		}},
		{"ReadFile", func(name string) (int64, error) {
			c, err := fs.ReadFile(f, name)
			return int64(len(c)), err
		}},
	} {
		var wall, cpu built
		total := int64(0)
		for range b.runs {
			var before, after syscall.Rusage
			total = 0
			start := time.Now()
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
				return err
			}
			err := fs.WalkDir(f, ".", func(p string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				n, err := how.read(p)
				total += n
				return err
			})
			if err != nil {
				return err
			}
			wall.seconds = append(wall.seconds, time.Since(start).Seconds())
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
				return err
			}
			cpu.seconds = append(cpu.seconds, float64(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano())/1e9)
		}
		mb := float64(total) / 1e6
		fmt.Printf("%-15s %.0f MB/s, by the processor's time %.0f MB/s, of %.0f MB (at least 400)\n", how.name, mb/wall.median(), mb/cpu.median(), mb)
	}
	return nil
}

var allocated = regexp.MustCompile(`bp allocated:\s+(\d+)`)

// beyondFiles prints what a pool takes beyond its files, by zdb.
func (b *bench) beyondFiles() error {
	image := filepath.Join(b.dir, "hello", "pool.img")
	if err := os.Mkdir(filepath.Dir(image), 0o755); err != nil {
		return err
	}
	if _, err := run("bin/imgbuild", "--fs", "zfs", "--no-kernel", "-q", "-o", image, "out/examples/hello-go"); err != nil {
		return err
	}
	r, f, err := openPool(image)
	if err != nil {
		return err
	}
	defer r.Close()
	files := int64(0)
	for i := range f.Entries {
		if e := &f.Entries[i]; e.Mode.IsRegular() && e.HardLink == "" {
			files += e.Size
		}
	}
	out, err := zfsTool("zdb", "sbin/zdb", "-e", "-p", filepath.Dir(image), f.Pool.Name, "-bc").CombinedOutput()
	m := allocated.FindSubmatch(out)
	if err != nil || m == nil {
		fmt.Printf("zdb cannot say what a pool takes: %v: run scripts/zfs-tools: %.300s\n", err, out)
		return nil
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		return err
	}
	fmt.Printf("%-15s %d bytes allocated, %d of files; beyond them %s MB\n", "hello", n, files, against(float64(n-files)/1e6, 2))
	return nil
}
