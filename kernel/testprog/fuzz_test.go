package testprog

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/ramfsmod"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/tree"
)

// scripts/fuzz-kernel sets these; without, a few boots of each kind are made, of seeds that stay the same.
var (
	fuzzTime  = flag.Duration("fuzz-time", 0, "how long each kind of hostile boot is repeated; 0 is a few boots")
	fuzzSeed  = flag.Uint64("fuzz-seed", 1, "the first seed")
	fuzzCalls = flag.Int("fuzz-calls", 20000, "system calls of one boot")
)

// repeat makes boots with seed after seed, and counts how they ended.
func repeat(t *testing.T, few int, boot func(seed uint64) (string, error)) {
	ends, failed := map[string]int{}, 0
	start := time.Now()
	n := 0
	for seed := *fuzzSeed; *fuzzTime == 0 && n < few || *fuzzTime != 0 && time.Since(start) < *fuzzTime; seed++ {
		n++
		end, err := boot(seed)
		if err != nil {
			t.Errorf("-fuzz-seed %d: %v", seed, err)
			if failed++; failed == 20 {
				break
			}
			continue
		}
		ends[end]++
	}
	t.Logf("%d boots from seed %d on, %d failed; %v", n, *fuzzSeed, failed, ends)
}

// judge says whether a machine ended as one may whose program, or image, is hostile.
func judge(e ended, err error) (string, error) {
	if err != nil {
		return "", err
	}
	if strings.Contains(e.console, "firstlight: kernel:") || strings.Contains(e.console, "goroutine ") {
		return "", fmt.Errorf("the kernel complains: %v", e)
	}
	switch e.how {
	case abi.EndExited:
		return fmt.Sprintf("exit %d", e.code), nil
	case abi.EndKilled:
		return fmt.Sprintf("signal %d", e.code), nil
	case abi.EndNotStart:
		return "not started", nil
	}
	return "", fmt.Errorf("the kernel died: %v", e)
}

// TestFuzzCalls has a program make random system calls.
func TestFuzzCalls(t *testing.T) {
	q := emulator(t)
	dir := t.TempDir()
	data(t, filepath.Join(dir, "data"))
	compileC(t, 0, "fuzz", filepath.Join(dir, "fuzz"))
	img := makeImage(t, vmSpec{dir: dir, args: []string{"/fuzz"}})
	repeat(t, 4, func(seed uint64) (string, error) {
		c := qemu.Config{Kernel: img, Disks: []string{img}, Append: fmt.Sprintf("arg=%d arg=%d", seed, *fuzzCalls)}
		if seed%5 == 0 {
			c.MemoryBytes = 16 << 20
		}
		return judge(runImage(t.Context(), q, c, limit/2))
	})
}

// judgeDamaged is judge for a boot whose program may be damaged.
func judgeDamaged(e ended, err error) (string, error) {
	if err == errSpins {
		return "spins", nil
	}
	return judge(e, err)
}

// TestFuzzELF starts programs whose headers are damaged.
func TestFuzzELF(t *testing.T) {
	q := emulator(t)
	dir := t.TempDir()
	compileC(t, 0, "start", filepath.Join(dir, "static"))
	compileC(t, 1, "start", filepath.Join(dir, "pie"))
	var elfs [][]byte
	for _, name := range []string{"static", "pie"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		elfs = append(elfs, b)
	}
	const variants = 40
	var img string
	made := ^uint64(0)
	repeat(t, 6, func(seed uint64) (string, error) {
		if batch := seed / variants; batch != made {
			made = batch
			dir := t.TempDir()
			for i := range uint64(variants) {
				r := rand.New(rand.NewPCG(batch*variants+i, 1))
				b := bytes.Clone(elfs[r.IntN(len(elfs))])
				const headers = 64 + 56*10
				for range 1 + r.IntN(4) {
					damage(r, b[:headers])
				}
				if r.IntN(8) == 0 {
					b = b[:r.IntN(len(b))]
				}
				write(t, filepath.Join(dir, fmt.Sprint("p", batch*variants+i)), b, 0o755)
			}
			img = makeImage(t, vmSpec{dir: dir, args: []string{"/p"}})
		}
		c := qemu.Config{Kernel: img, Disks: []string{img}, Append: fmt.Sprintf("init=/p%d", seed)}
		return judgeDamaged(runImage(t.Context(), q, c, 2*time.Second))
	})
}

// damage changes a number in b.
func damage(r *rand.Rand, b []byte) {
	at := r.IntN(len(b))
	switch r.IntN(4) {
	case 0:
		b[at] ^= 1 << r.IntN(8)
	case 1:
		b[at] = byte(r.Uint32())
	case 2:
		for i := at &^ 7; i < min(at&^7+8, len(b)); i++ {
			b[i] = byte(int8(r.IntN(3) - 1)) // 0, 1 and -1 in each byte
		}
	case 3:
		for i := at &^ 7; i < min(at&^7+8, len(b)); i++ {
			b[i] = byte(r.Uint32())
		}
	}
}

// sum makes the checksums of a ROFS's metadata right again: damage then gets as far as what a writer means harm with.
func sum(b []byte) {
	(*format.Superblock)(b).SetCRC()
	for at := format.BlockSize; at+format.BlockSize <= len(b); at += format.BlockSize {
		h := (*format.Header)(b[at:])
		for _, s := range format.Shapes {
			if h.Magic() == s.Magic && h.Used() <= format.PayloadSize {
				h.SetCRC(format.Checksum(b[at+4 : at+format.HeaderSize+int(h.Used())]))
			}
		}
	}
}

// TestFuzzImages boots images with damage behind the kernel, half of them with right checksums.
func TestFuzzImages(t *testing.T) {
	q := emulator(t)
	dir := t.TempDir()
	data(t, filepath.Join(dir, "data"))
	compileC(t, 0, "files", filepath.Join(dir, "files"))
	img := makeImage(t, vmSpec{dir: dir, args: []string{"/files"}})
	whole, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	start := 0
	for !bytes.HasPrefix(whole[start:], []byte("FL-ROFS\x02")) {
		if start += format.BlockSize; start >= len(whole) {
			t.Fatal("the image's file system is not found")
		}
	}
	bad := filepath.Join(t.TempDir(), "bad.img")
	repeat(t, 6, func(seed uint64) (string, error) {
		r := rand.New(rand.NewPCG(seed, 2))
		b := bytes.Clone(whole)
		root := b[start:]
		switch r.IntN(3) { // the first pages and the last have the metadata
		case 0:
			root = root[:16<<10]
		case 1:
			root = root[len(root)-64<<10:]
		}
		for range 1 << r.IntN(6) {
			damage(r, root)
		}
		if seed%2 == 0 {
			sum(b[start:])
		}
		if err := os.WriteFile(bad, b, 0o666); err != nil {
			return "", err
		}
		return judgeDamaged(runImage(t.Context(), q, qemu.Config{Kernel: img, Disks: []string{bad}}, 4*time.Second))
	})
}

// TestFuzzArchives boots initial RAM disks that are damaged, plain and compressed.
func TestFuzzArchives(t *testing.T) {
	q := emulator(t)
	dir := t.TempDir()
	data(t, filepath.Join(dir, "data"))
	compileC(t, 2, "files", filepath.Join(dir, "files"))
	root, err := tree.FromDir(t.Context(), dir, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := fsmod.Lookup("ramfs")
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := theKernel()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "initrd")
	var archives [][]byte
	for _, codec := range append([]string{""}, m.Codecs()...) {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Write(t.Context(), f, root, fsmod.Options{Codec: codec}); err != nil {
			t.Fatal(err)
		}
		f.Close()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, b)
	}
	repeat(t, 6, func(seed uint64) (string, error) {
		r := rand.New(rand.NewPCG(seed, 3))
		b := bytes.Clone(archives[max(0, r.IntN(2*len(archives))-len(archives))]) // half of them plain
		for range 1 << r.IntN(8) {
			damage(r, b)
		}
		if r.IntN(8) == 0 {
			b = b[:r.IntN(len(b))]
		}
		if err := os.WriteFile(name, b, 0o666); err != nil {
			return "", err
		}
		return judgeDamaged(runImage(t.Context(), q, qemu.Config{KernelImage: kernel, Initrd: name, Append: "init=/files"}, 4*time.Second))
	})
}

// TestFuzzMappings has a program make random calls on its mappings and their files, after which all pages have to be accounted for.
func TestFuzzMappings(t *testing.T) {
	q := emulator(t)
	dir := t.TempDir()
	compileC(t, 0, "remap", filepath.Join(dir, "remap"))
	img := makeImage(t, vmSpec{dir: dir, args: []string{"/remap"}})
	repeat(t, 4, func(seed uint64) (string, error) {
		c := qemu.Config{Kernel: img, Disks: []string{img}, Append: fmt.Sprintf("arg=%d arg=10000 arg=%d", seed, 1+seed%3)}
		e, err := runImage(t.Context(), q, c, limit/2)
		end, err := judge(e, err)
		if err == nil && end != "exit 0" {
			err = fmt.Errorf("want exit 0, got %v", e)
		}
		return end, err
	})
}
