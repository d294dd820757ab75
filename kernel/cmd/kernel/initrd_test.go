package main_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/internal/kernelbuild"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/link"
	"github.com/firstlight-boot/firstlight/qemu"
)

func run(t *testing.T, dir string, in []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(in)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, errs.Bytes())
	}
	return out
}

// program checks the root that it runs from; it gets its arguments from the command line.
const program = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/xattr.h>
#include <unistd.h>
#define CHECK(x) do { if (!(x)) { printf("FAIL line %d: %s (errno %d)\n", __LINE__, #x, errno); exit(1); } } while (0)
static unsigned long unused(void) { struct sysinfo i; sysinfo(&i); return i.freeram * i.mem_unit; }
int main(int argc, char **argv) {
	struct stat st, st2;
	struct statfs fs;
	CHECK(argc == 3 && !strcmp(argv[1], "one") && !strcmp(argv[2], "two words") && !strcmp(getenv("K"), "V"));
	CHECK(!statfs("/", &fs) && fs.f_type == 0x858458f6 && fs.f_blocks > 0);
	CHECK(!stat("/big", &st) && st.st_size == 1500000 && (st.st_mode & 07777) == 0640 && st.st_mtime == 1000000000);
	CHECK(!stat("/hard", &st) && !stat("/dir/hard", &st2) && st.st_ino == st2.st_ino && st.st_nlink == 2);
	int fd = open("/big", O_RDWR);
	unsigned char *m = mmap(0, 1500000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(m != MAP_FAILED);
	for (int i = 0; i < 1500000; i += 4095) {
		unsigned char c;
		CHECK(pread(fd, &c, 1, i) == 1 && c == (unsigned char)(i * 7 + i / 251) && m[i] == c);
	}
	for (int i = 1500000; i < (1500000 + 4095) / 4096 * 4096; i++) CHECK(m[i] == 0);
	m[5000] = 'm';
	CHECK(pwrite(fd, "wxyz", 4, 8190) == 4);
	char b[8];
	CHECK(pread(fd, b, 1, 5000) == 1 && b[0] == 'm' && !memcmp(m + 8190, "wxyz", 4));
	CHECK(m[8189] == (unsigned char)(8189 * 7 + 8189 / 251) && m[8194] == (unsigned char)(8194 * 7 + 8194 / 251));
	CHECK(!munmap(m, 1500000));
	CHECK(!rename("/link", "/hard") && readlink("/hard", b, 8) == 3 && !memcmp(b, "big", 3));
	CHECK(!mkdir("/new", 0700) && !symlink("x", "/new/l") && rmdir("/new") == -1 && errno == ENOTEMPTY);
	int hole = open("/tmp/hole", O_CREAT | O_RDWR, 0600);
	CHECK(pwrite(hole, "x", 1, 9000000) == 1 && lseek(hole, 0, SEEK_DATA) == 9000000 / 4096 * 4096 && lseek(hole, 5, SEEK_HOLE) == 5);
	CHECK(lseek(hole, 9000000, SEEK_HOLE) == 9000001 && lseek(hole, 9000001, SEEK_DATA) == -1 && errno == ENXIO && !close(hole));
	CHECK(getxattr("/big", "user.a", b, 8) == -1 && errno == ENODATA);
	CHECK(!setxattr("/big", "user.a", "one", 3, XATTR_CREATE) && fsetxattr(fd, "user.a", "x", 1, XATTR_CREATE) == -1 && errno == EEXIST);
	CHECK(!fsetxattr(fd, "user.bc", "", 0, 0) && listxattr("/big", b, 2) == -1 && errno == ERANGE);
	char names[32];
	CHECK(listxattr("/big", 0, 0) == 15 && flistxattr(fd, names, 32) == 15 && !memcmp(names, "user.a\0user.bc", 15));
	CHECK(lgetxattr("/big", "user.a", b, 8) == 3 && !memcmp(b, "one", 3) && fgetxattr(fd, "user.bc", b, 8) == 0);
	CHECK(!removexattr("/big", "user.a") && fremovexattr(fd, "user.a") == -1 && errno == ENODATA);
	CHECK(lsetxattr("/hard", "user.a", "x", 1, 0) == -1 && errno == EPERM);
	CHECK(setxattr("/big", "other", "x", 1, 0) == -1 && errno == EOPNOTSUPP);
	CHECK(!setxattr("/tmp", "trusted.t", "x", 1, 0) && setxattr("/proc", "user.t", "x", 1, 0) == -1 && errno == EOPNOTSUPP);
	CHECK(unlink("/init") == 0);
	unsigned long before = unused();
	CHECK(!unlink("/big") && unused() < before + 500000);
	CHECK(!close(fd));
	CHECK(unused() > before + 1300000);
	puts("all is well");
	return 7;
}
`

// folder makes what an initial RAM disk holds.
func folder(t *testing.T) string {
	t.Helper()
	needs.Tool(t, "gcc", "gcc libc6-dev")
	dir := t.TempDir()
	run(t, dir, []byte(program), "gcc", "-static", "-O1", "-w", "-x", "c", "-o", "init", "-")
	b := make([]byte, 1500000)
	for i := range b {
		b[i] = byte(i*7 + i/251)
	}
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, "big"), b, 0o640),
		os.Chmod(filepath.Join(dir, "big"), 0o640), // whatever the umask
		os.Chtimes(filepath.Join(dir, "big"), time.Time{}, time.Unix(1e9, 0)),
		os.Mkdir(filepath.Join(dir, "dir"), 0o755),
		os.WriteFile(filepath.Join(dir, "hard"), []byte("x"), 0o644),
		os.Link(filepath.Join(dir, "hard"), filepath.Join(dir, "dir", "hard")),
		os.Symlink("big", filepath.Join(dir, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// aligned is a cpio archive of dir's files, big and init, with their contents on page boundaries: names may end in NULs.
func aligned(t *testing.T, dir string) []byte {
	t.Helper()
	var b []byte
	add := func(name string, mode, nlink int, mtime int64, data []byte, ino int) {
		size := len(name) + 1
		if len(data) > 4096 {
			size = 4096 - (len(b)+110)%4096
			if size <= len(name) {
				size += 4096
			}
		}
		b = fmt.Appendf(b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ino, mode, 0, 0, nlink, mtime, len(data), 0, 0, 0, 0, size, 0)
		b = append(append(b, name...), make([]byte, size-len(name))...)
		b = append(b, make([]byte, -len(b)&3)...)
		b = append(b, data...)
		b = append(b, make([]byte, -len(b)&3)...)
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	add("dir", 0o40755, 2, 1, nil, 1)
	add("big", 0o100640, 1, 1e9, read("big"), 2)
	add("init", 0o100755, 1, 1, read("init"), 3)
	add("hard", 0o100644, 2, 1, nil, 4)
	add("dir/hard", 0o100644, 2, 1, []byte("x"), 4)
	add("link", 0o120777, 1, 1, []byte("big"), 5)
	add("TRAILER!!!", 0, 1, 0, nil, 0)
	return b
}

// boot boots a kernel and returns the console, and how it ended by the end mark.
func boot(t *testing.T, c qemu.Config) (console string, how, code byte) {
	t.Helper()
	needs.Tool(t, "qemu-system-x86_64", "qemu-system-x86")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	q, err := qemu.Find(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	var out, marks []byte
	c.Accel = "tcg"
	vm, err := q.Start(ctx, c, qemu.Events{
		Console: func(_ time.Duration, p []byte) { out = append(out, p...) },
		Mark:    func(_ time.Duration, p []byte) { marks = append(marks, p...) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	_, err = vm.Wait()
	console = strings.ReplaceAll(string(out), "\r", "")
	if n := len(marks); n >= 3 && marks[n-3] == abi.MarkEnd {
		return console, marks[n-2], marks[n-1]
	}
	t.Fatalf("no end mark: %v, marks %x, console:\n%s", err, marks, console)
	return "", 0, 0
}

func TestInitrd(t *testing.T) {
	needs.Tool(t, "cpio", "cpio")
	kernel, err := kernelbuild.Build(t.Context(), filepath.Join("..", "..", ".."), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	bz, err := link.BzImage(kernel)
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t)
	plain := run(t, dir, nil, "sh", "-c", "find . | LC_ALL=C sort | cpio -o --quiet -H newc")
	whole := aligned(t, dir)
	if got := string(run(t, dir, whole, "cpio", "-t", "--quiet")); got != "dir\nbig\ninit\nhard\ndir/hard\nlink\n" {
		t.Errorf("cpio lists %q", got)
	}
	write := func(b []byte) string {
		name := filepath.Join(t.TempDir(), "initrd")
		if err := os.WriteFile(name, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return name
	}
	pack := func(name string, args ...string) []byte {
		needs.Tool(t, name, name)
		return run(t, dir, plain, name, append(args, "-c")...)
	}
	const words = `init=/init arg=one arg=two\ words env=K=V`
	disk := write(append(make([]byte, 1536), plain...))
	onDisk := fmt.Sprintf("root=ramfs:1536:%d ", len(plain))
	large := t.TempDir()
	if err := os.WriteFile(filepath.Join(large, "zeros"), make([]byte, 100<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	needs.Tool(t, "lz4", "lz4")
	large4 := run(t, large, nil, "sh", "-c", "echo zeros | cpio -o --quiet -H newc | lz4 -l -1 -c")
	for _, c := range []struct {
		name   string
		config qemu.Config
		initrd []byte
		line   string
		how    byte
		want   string // on the console
	}{
		{"plain", qemu.Config{KernelImage: kernel}, plain, words, abi.EndExited, "all is well\n"},
		{"aligned", qemu.Config{KernelImage: kernel}, whole, words, abi.EndExited, "all is well\n"},
		{"lz4", qemu.Config{KernelImage: kernel}, pack("lz4", "-l"), words, abi.EndExited, "all is well\n"},
		{"zstd", qemu.Config{KernelImage: kernel}, pack("zstd"), words, abi.EndExited, "all is well\n"},
		{"gzip", qemu.Config{KernelImage: kernel}, pack("gzip"), words, abi.EndExited, "all is well\n"},
		{"bzImage", qemu.Config{KernelImage: bz}, plain, words, abi.EndExited, "all is well\n"},
		{"bzImage on pc", qemu.Config{KernelImage: bz, Machine: qemu.PC}, whole, words, abi.EndExited, "all is well\n"},
		{"2 GiB", qemu.Config{KernelImage: kernel, MemoryBytes: 2 << 30}, pack("lz4", "-l"), words, abi.EndExited, "all is well\n"},
		{"on a disk", qemu.Config{KernelImage: kernel, Disks: []string{disk}}, nil, onDisk + words, abi.EndExited, "all is well\n"},
		{"the command line decides", qemu.Config{KernelImage: kernel, Disks: []string{disk}}, []byte("no archive"), onDisk + words, abi.EndExited, "all is well\n"},
		{"beyond the disk", qemu.Config{KernelImage: kernel, Disks: []string{disk}}, nil, "root=ramfs:1536:99999999", abi.EndNotStart, "ends beyond the disk"},
		{"no words", qemu.Config{KernelImage: kernel}, plain, "", abi.EndExited, "FAIL line"},
		{"text", qemu.Config{KernelImage: kernel}, []byte("no archive"), words, abi.EndNotStart, "cannot mount the root: initial RAM disk: at byte 0: neither a cpio archive"},
		{"cut", qemu.Config{KernelImage: kernel}, plain[:len(plain)/2], words, abi.EndNotStart, "are cut short"},
		{"cut lz4", qemu.Config{KernelImage: kernel}, pack("lz4", "-l")[:100_000], words, abi.EndNotStart, "cut short or damaged"},
		{"too large", qemu.Config{KernelImage: kernel}, large4, words, abi.EndNotStart, "does not fit into memory: give the machine more --memory"},
		{"no archive", qemu.Config{KernelImage: kernel}, nil, "root=initrd", abi.EndNotStart, "there is no initial RAM disk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.initrd != nil {
				c.config.Initrd = write(c.initrd)
			}
			if c.config.MemoryBytes == 0 {
				c.config.MemoryBytes = 24 << 20
			}
			c.config.Append = c.line
			console, how, code := boot(t, c.config)
			if how != c.how || !strings.Contains(console, c.want) || strings.Count(console, "\n") != 1 {
				t.Errorf("how %d, code %d, want how %d, %q; console:\n%s", how, code, c.how, c.want, console)
			}
		})
	}
}
