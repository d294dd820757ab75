package hyperkit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// bzImage returns one that hyperkit takes, with room for changes: 1 MiB at 1 MiB.
func bzImage() []byte {
	b := make([]byte, 4096+8192)
	le := binary.LittleEndian
	b[hdrSetupSects] = 7
	le.PutUint32(b[hdrSysSize:], 8192/16)
	le.PutUint16(b[hdrBootFlag:], 0xaa55)
	copy(b[hdrMagic:], "HdrS")
	le.PutUint16(b[hdrVersion:], 0x20c)
	b[hdrLoadFlags] = 1
	le.PutUint32(b[hdrInitrdMax:], 0x7fffffff)
	le.PutUint32(b[hdrAlignment:], 0x200000)
	le.PutUint32(b[hdrCmdlineMax:], 255)
	le.PutUint64(b[hdrPreferred:], 0x100000)
	le.PutUint32(b[hdrInitSize:], 1<<20)
	return b
}

func TestCheckKernel(t *testing.T) {
	le := binary.LittleEndian
	for _, tt := range []struct {
		name   string
		change func(b []byte, c *Config) []byte
		initrd int64
		says   string // "": it is fine
	}{
		{"fine", nil, -1, ""},
		{"with a RAM disk", nil, 4 << 20, ""},
		{"least memory", func(b []byte, c *Config) []byte { c.MemoryBytes = 2 << 20; return b }, -1, ""},
		{"too little memory", func(b []byte, c *Config) []byte { c.MemoryBytes = 1 << 20; return b }, -1, "needs 2 MiB of memory, the machine has 1"},
		{"longest command line", func(b []byte, c *Config) []byte { c.CommandLine = strings.Repeat("x", 254); return b }, -1, ""},
		{"long command line", func(b []byte, c *Config) []byte { c.CommandLine = strings.Repeat("x", 255); return b }, -1, "takes 254"},
		{"no command line", func(b []byte, c *Config) []byte { le.PutUint32(b[hdrCmdlineMax:], 0); return b }, -1, "takes 0"},
		{"ELF", func(b []byte, c *Config) []byte { copy(b, "\x7fELF"); return b }, -1, "ELF file"},
		{"short", func(b []byte, c *Config) []byte { return b[:600] }, -1, "too few"},
		{"empty", func(b []byte, c *Config) []byte { return nil }, -1, "too few"},
		{"truncated", func(b []byte, c *Config) []byte { return b[:len(b)-1] }, -1, "truncated"},
		{"no boot flag", func(b []byte, c *Config) []byte { b[hdrBootFlag] = 0; return b }, -1, "no bzImage"},
		{"no magic", func(b []byte, c *Config) []byte { b[hdrMagic] = 0; return b }, -1, "no bzImage"},
		{"no setup", func(b []byte, c *Config) []byte { b[hdrSetupSects] = 0; return b }, -1, "no bzImage"},
		{"old", func(b []byte, c *Config) []byte { b[hdrVersion] = 9; return b }, -1, "protocol is 2.09, 2.10 is needed"},
		{"zImage", func(b []byte, c *Config) []byte { b[hdrLoadFlags] = 0; return b }, -1, "zImage"},
		{"low", func(b []byte, c *Config) []byte { le.PutUint64(b[hdrPreferred:], 0x10000); return b }, -1, "below 1 MiB"},
		{"relocatable", func(b []byte, c *Config) []byte { b[hdrReloc] = 1; return b }, -1, ""},
		{"alignment 0", func(b []byte, c *Config) []byte { b[hdrReloc] = 1; le.PutUint32(b[hdrAlignment:], 0); return b }, -1, "alignment"},
		{"far", func(b []byte, c *Config) []byte { le.PutUint64(b[hdrPreferred:], 1<<64-4096); return b }, -1, "the machine has 64"},
		{"small init_size", func(b []byte, c *Config) []byte { le.PutUint32(b[hdrInitSize:], 4096); return b }, -1, "more than the 4096"},
		{"empty RAM disk", nil, 0, "empty"},
		{"RAM disk over the kernel", nil, 62<<20 + 1, "does not fit"},
		{"RAM disk in the last place", nil, 62<<20 - 4096, ""},
		{"huge RAM disk", nil, 1 << 40, "does not fit"},
	} {
		b, c := bzImage(), Config{Kernel: "k"}
		if tt.change != nil {
			b = tt.change(b, &c)
		}
		err := c.CheckKernel(bytes.NewReader(b), int64(len(b)), tt.initrd)
		if tt.says == "" && err != nil || tt.says != "" && (!errors.Is(err, ErrKernel) || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
	}
}

type brokenReader struct{ error }

func (r brokenReader) ReadAt([]byte, int64) (int, error) { return 0, r.error }

func TestCheckKernelReadError(t *testing.T) {
	broken := errors.New("the disk is broken")
	if err := (Config{}).CheckKernel(brokenReader{broken}, 1<<20, -1); !errors.Is(err, broken) || errors.Is(err, ErrKernel) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

func FuzzCheckKernel(f *testing.F) {
	if b := bzImage(); (Config{}).CheckKernel(bytes.NewReader(b), int64(len(b)), 1<<20) != nil {
		f.Fatal("the seed is refused")
	}
	f.Add(bzImage(), int64(64), int64(-1))
	f.Add(bzImage(), int64(8), int64(1<<20))
	f.Fuzz(func(t *testing.T, b []byte, mib, initrd int64) {
		c := Config{MemoryBytes: mib << 20}
		if mib < 1 || mib > MaxMemory>>20 {
			c.MemoryBytes = 0
		}
		err := c.CheckKernel(bytes.NewReader(b), int64(len(b)), initrd)
		if err == nil && len(b) < hdrEnd {
			t.Errorf("%d bytes are a kernel", len(b))
		}
		if err != nil && !errors.Is(err, ErrKernel) {
			t.Errorf("another error: %v", err)
		}
	})
}
