package symbols

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/firstlight-boot/firstlight/internal/needs"
)

// vmlinuz is the path of Debian's kernel.
func vmlinuz(t testing.TB) string {
	t.Helper()
	const path = "../out/linux/vmlinuz"
	if _, err := os.Stat(path); err != nil {
		needs.Missing(t, path+" is not there: scripts/linux-kernel")
	}
	return path
}

func TestLinux(t *testing.T) {
	o := open(t, vmlinuz(t))
	if got := fmt.Sprint(o.Sources()); got != "[kallsyms]" {
		t.Errorf("sources %s", got)
	}
	if len(o.BuildID()) != 40 {
		t.Errorf("build ID %q", o.BuildID())
	}
	if n := len(o.table.symbols); n < 50000 {
		t.Errorf("only %d symbols", n)
	}
	start, _, _ := o.Find("startup_64")
	init, size, ok := o.Find("start_kernel")
	if text := o.Text(); start != text[0].Start || !ok || size < 100 || init < text[1].Start || init >= text[1].Limit {
		t.Errorf("startup_64 %#x, start_kernel %#x + %d, text %x", start, init, size, text)
	}
	if frames := o.Lookup(init + 100); len(frames) != 1 || frames[0] != (Frame{Function: "start_kernel", System: "start_kernel", Start: init}) {
		t.Errorf("%+v", frames)
	}
	if names := o.Names("start_k"); !slices.Contains(names, "start_kernel") {
		t.Errorf("names %q", names)
	}
	named, all := 0, 0
	for _, r := range o.Text() {
		for a := r.Start; a < r.Limit; a += 997 {
			all++
			if o.Lookup(a) != nil {
				named++
			}
		}
	}
	if named < all*999/1000 {
		t.Errorf("%d of %d addresses have a name", named, all)
	}
}

// TestLinuxBoot compares the symbols with what the running kernel says of itself, where KASLR has put it, and finds that place
// from the code that was executed.
func TestLinuxBoot(t *testing.T) {
	kernel := vmlinuz(t)
	needs.Tool(t, "qemu-system-x86_64", "qemu-system-x86")
	needs.Tool(t, "gcc", "gcc")
	dir := t.TempDir()
	program, initrd, log := filepath.Join(dir, "init"), filepath.Join(dir, "initrd"), filepath.Join(dir, "log")
	run(t, "gcc", "-static", "-O1", "-o", program, "testdata/init.c")
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w := cpio.Newc.Writer(&archive)
	for _, r := range []cpio.Record{
		cpio.Directory("dev", 0o755), cpio.CharDev("dev/console", 0o600, 5, 1), cpio.StaticFile("init", string(b), 0o755), cpio.TrailerRecord,
	} {
		if err := w.WriteRecord(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(initrd, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	// With -icount the guest's clocks do not depend on how busy the host is.
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "microvm", "-accel", "tcg", "-cpu", "qemu64", "-m", "256", "-nodefaults",
		"-no-user-config", "-display", "none", "-no-reboot", "-icount", "shift=3,sleep=off", "-serial", "stdio", "-d", "in_asm", "-D", log,
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet reboot=t panic=-1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("qemu: %v\n%s", err, out)
	}

	o := open(t, kernel)
	type guest struct {
		addr uint64
		typ  byte
		name string
	}
	var symbols []guest
	var total int
	var bias uint64
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 4 && f[0] == "SYM":
			addr, err := strconv.ParseUint(f[1], 16, 64)
			if err != nil {
				t.Fatal(line)
			}
			symbols = append(symbols, guest{addr, f[2][0], f[3]})
			if f[3] == "start_kernel" {
				start, _, _ := o.Find("start_kernel")
				bias = addr - start
			}
		case len(f) == 2 && f[0] == "TOTAL":
			total, _ = strconv.Atoi(f[1])
		}
	}
	if len(symbols) < total/50 || total < 50000 {
		t.Fatalf("the guest lists %d of %d symbols:\n%.2000s", len(symbols), total, out)
	}
	absolute := 0
	for _, g := range symbols {
		if g.typ == 'A' || g.typ == 'a' {
			absolute++
			continue
		}
		at := g.addr - bias
		if !slices.ContainsFunc(o.table.symbols, func(s symbol) bool { return s.addr == at && s.name == g.name }) {
			t.Fatalf("%s is not at %#x, or the guest's at %#x", g.name, at, g.addr)
		}
	}
	// The guest's absolute symbols were counted too, and one of 50 was seen.
	if n := len(o.table.symbols) + absolute*50; n > total+2500 || n < total-2500 {
		t.Errorf("%d symbols, the guest has %d", n, total)
	}
	t.Logf("%d symbols, the guest has %d; bias %#x", len(o.table.symbols), total, bias)

	seen := executed(t, log)
	got, matched, ok := Bias(o, seen, 2<<20)
	t.Logf("%d of %d blocks match", matched, len(seen))
	if !ok || got != bias || bias == 0 || matched < len(seen)*98/100 {
		t.Errorf("bias %#x, %v with %d of %d blocks, want %#x", got, ok, matched, len(seen), bias)
	}
	// Few blocks do as well, and all of them with another kernel's code do not.
	if got, _, ok := Bias(o, seen[:40], 2<<20); !ok || got != bias {
		t.Errorf("of 40 blocks: bias %#x, %v", got, ok)
	}
	if _, matched, ok := Bias(open(t, program), seen, 4096); ok {
		t.Errorf("the kernel's blocks were found in init: %d", matched)
	}
}

var asmLine = regexp.MustCompile(`^0x([0-9a-f]+): ((?: [0-9a-f]{2})+)\s`)

// executed reads QEMU's log of translated blocks, as far as they are in the kernel's half.
func executed(t *testing.T, log string) []Seen {
	t.Helper()
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var seen []Seen
	inBlock := false
	s := bufio.NewScanner(f)
	for s.Scan() {
		m := asmLine.FindStringSubmatch(s.Text() + " ")
		if m == nil {
			inBlock = false
			continue
		}
		addr, err := strconv.ParseUint(m[1], 16, 64)
		code, err2 := hex.DecodeString(strings.ReplaceAll(m[2], " ", ""))
		if err != nil || err2 != nil {
			t.Fatal(s.Text())
		}
		if addr < 1<<63 {
			continue
		}
		if !inBlock {
			seen = append(seen, Seen{Addr: addr})
			inBlock = true
		}
		last := &seen[len(seen)-1]
		last.Code = append(last.Code, code[:min(len(code), 16-len(last.Code))]...)
	}
	if len(seen) < 1000 {
		t.Fatalf("only %d blocks in the log", len(seen))
	}
	return seen
}

// layout is how a version of Linux writes its kallsyms.
type layout struct {
	name       string
	newOrder   bool // from 6.4
	absolute   bool // addresses instead of offsets, to 4.5
	percpu     bool // absolute per-CPU symbols, to 6.14
	wideMarker bool // 64-bit markers, to 4.19
	seqs       bool // from 6.2
}

var layouts = []layout{
	{name: "4.4", absolute: true, wideMarker: true},
	{name: "4.14", percpu: true, wideMarker: true},
	{name: "5.10", percpu: true},
	{name: "5.10 without SMP"},
	{name: "6.2", percpu: true, seqs: true},
	{name: "6.6", newOrder: true, percpu: true, seqs: true},
	{name: "6.16", newOrder: true, seqs: true},
	{name: "6.16, absolute", newOrder: true, absolute: true, seqs: true},
}

type kallsym struct {
	addr uint64
	name string // with its type
}

// writeKallsyms is scripts/kallsyms.c, but for the choice of tokens.
func writeKallsyms(l layout, base uint64, symbols []kallsym) []byte {
	var b []byte
	align := func() {
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
	}
	var tokens [256]string
	for c := range 127 {
		if c > ' ' {
			tokens[c] = string(rune(c))
		}
	}
	tokens[0x80], tokens[0x81], tokens[0x01] = "sym", "Tstart_", "_"
	addresses := func() {
		for _, s := range symbols {
			switch {
			case l.absolute:
				b = le.AppendUint64(b, s.addr)
			case l.percpu && s.addr < 1<<31:
				b = le.AppendUint32(b, uint32(s.addr))
			case l.percpu:
				b = le.AppendUint32(b, uint32(base-1-s.addr))
			default:
				b = le.AppendUint32(b, uint32(s.addr-base))
			}
		}
		align()
		if !l.absolute {
			b = le.AppendUint64(b, base)
		}
	}
	seqs := func() {
		if l.seqs {
			for range symbols {
				b = append(b, 0, 1, 2)
			}
			align()
		}
	}
	tables := func() {
		var index []byte
		start := len(b)
		for _, s := range tokens {
			index = le.AppendUint16(index, uint16(len(b)-start))
			b = append(append(b, s...), 0)
		}
		align()
		b = append(b, index...)
		align()
	}
	if !l.newOrder {
		addresses()
	}
	b = le.AppendUint64(b, uint64(len(symbols)))
	var markers []byte
	start := len(b)
	for i, s := range symbols {
		if i%256 == 0 {
			if markers = le.AppendUint32(markers, uint32(len(b)-start)); l.wideMarker {
				markers = le.AppendUint32(markers, 0)
			}
		}
		var name []byte
		for rest := s.name; rest != ""; {
			best := 0
			for i, token := range tokens {
				if token != "" && strings.HasPrefix(rest, token) && len(token) > len(tokens[best]) {
					best = i
				}
			}
			name, rest = append(name, byte(best)), rest[len(tokens[best]):]
		}
		if len(name) < 128 {
			b = append(b, byte(len(name)))
		} else {
			b = append(b, byte(len(name)&0x7f|0x80), byte(len(name)>>7))
		}
		b = append(b, name...)
	}
	align()
	b = append(b, markers...)
	align()
	if !l.newOrder {
		seqs()
	}
	tables()
	if l.newOrder {
		addresses()
		seqs()
	}
	return b
}

// testKallsyms are symbols as a kernel at base has them.
func testKallsyms(l layout, base uint64, n int) []kallsym {
	var symbols []kallsym
	if l.percpu {
		symbols = append(symbols, kallsym{0, "Afixed_percpu_data"}, kallsym{0x1000, "Aper_cpu_9"})
	}
	for i := range n {
		name := fmt.Sprintf("Tstart_%d_sym", i)
		if i == 77 {
			name = "t" + strings.Repeat("long", 60) // only Linux 6.1 and later take as much
		}
		symbols = append(symbols, kallsym{base + uint64(i)*16, name})
	}
	return append(symbols, kallsym{base + uint64(n)*16, "D_data"})
}

func TestKallsymsLayouts(t *testing.T) {
	const base, n = 0xffffffff81000000, 1000
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			want := testKallsyms(l, base, n)
			// Around them is what looks like tables here and there.
			noise := bytes.Repeat([]byte{100, 0, 0, 0, 0, 0, 0, 0, '0', 0, '1', 0, '2', 0, '3', 0}, 100)
			b := append(slices.Clone(noise), writeKallsyms(l, base, want)...)
			b = append(b, noise...)
			inText := func(a uint64) bool { return a >= base && a < base+n*16 }
			got, err := kallsyms(b, base, inText)
			if err != nil {
				t.Fatal(err)
			}
			want = slices.DeleteFunc(want, func(s kallsym) bool { return s.name[0] == 'A' })
			if len(got) != len(want) {
				t.Fatalf("%d symbols, want %d", len(got), len(want))
			}
			for i, s := range got {
				if s.addr != want[i].addr || s.name != want[i].name[1:] {
					t.Fatalf("symbol %d: %#x %s, want %#x %s", i, s.addr, s.name, want[i].addr, want[i].name)
				}
			}
			if _, err := kallsyms(b, base, func(uint64) bool { return false }); !errors.Is(err, ErrFormat) {
				t.Errorf("with addresses that are not in code: %v", err)
			}
		})
	}
	if s, err := kallsyms(make([]byte, 1<<16), base, nil); s != nil || err != nil {
		t.Errorf("in nothing: %v, %v", s, err)
	}
}

// bzImage wraps a compressed kernel.
func bzImage(payload []byte) []byte {
	b := make([]byte, 2*512+64)
	b[bzSetupSects] = 1
	copy(b[bzMagic:], "HdrS")
	le.PutUint16(b[bzVersion:], 0x20f)
	le.PutUint32(b[bzPayloadOffset:], 64)
	le.PutUint32(b[bzPayloadLength:], uint32(len(payload)))
	return append(b, payload...)
}

// TestBzImage packs a program as kernels are packed.
func TestBzImage(t *testing.T) {
	needs.Tool(t, "gcc", "gcc")
	dir := t.TempDir()
	path := filepath.Join(dir, "prog")
	run(t, "gcc", "-O2", "-static", "-o", path, "testdata/prog.c")
	plain, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, _, _ := open(t, path).Find("split")
	for _, c := range []struct {
		tool, pkg string
		args      []string
		err       error
	}{
		{"gzip", "gzip", []string{"-9"}, nil},
		{"lz4", "lz4", []string{"-l", "-9"}, nil},
		{"zstd", "zstd", []string{"-19"}, nil},
		{"bzip2", "bzip2", []string{"-9"}, nil},
		{"xz", "xz-utils", []string{"--check=crc32"}, ErrUnsupported},
		{"xz", "xz-utils", []string{"--format=lzma"}, ErrUnsupported},
	} {
		t.Run(c.tool+strings.Join(c.args, ""), func(t *testing.T) {
			needs.Tool(t, c.tool, c.pkg)
			cmd := exec.Command(c.tool, append(c.args, "-c")...)
			cmd.Stdin = bytes.NewReader(plain)
			packed, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if c.tool != "gzip" {
				packed = le.AppendUint32(packed, uint32(len(plain)))
			}
			image := bzImage(packed)
			o, err := New(bytes.NewReader(image), int64(len(image)), "vmlinuz", Options{})
			if !errors.Is(err, c.err) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			if err != nil {
				var bad *FormatError
				if !errors.As(err, &bad) || bad.Format != "bzImage" {
					t.Errorf("%v", err)
				}
				return
			}
			if got, _, ok := o.Find("split"); !ok || got != want {
				t.Errorf("split is at %#x, want %#x", got, want)
			}
			for _, cut := range []int{10, 300, 600, 1000, len(image) / 2, len(image) - 1} {
				if _, err := New(bytes.NewReader(image[:cut]), int64(cut), "vmlinuz", Options{}); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) {
					t.Errorf("cut at %d: %v", cut, err)
				}
			}
			le.PutUint32(image[len(image)-4:], 1<<31)
			if _, err := New(bytes.NewReader(image), int64(len(image)), "vmlinuz", Options{}); err == nil {
				t.Error("a wrong size was believed")
			}
		})
	}
}

// BenchmarkLinux opens Debian's kernel, and looks addresses up in it.
func BenchmarkLinux(b *testing.B) {
	kernel := vmlinuz(b)
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			open(b, kernel)
		}
	})
	b.Run("lookup", func(b *testing.B) {
		o := open(b, kernel)
		text := o.Text()[0]
		addr := text.Start
		for b.Loop() {
			if addr += 4099; addr >= text.Limit {
				addr = text.Start
			}
			o.Lookup(addr)
		}
	})
}
