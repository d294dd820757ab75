package testprog

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// TestReclaim has a program read and map twice what memory holds, of files that are compressed, raw, and in tails.
func TestReclaim(t *testing.T) {
	const memory = 12 << 20
	dir := t.TempDir()
	args := []string{"/reclaim"}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 12 {
		b := make([]byte, memory/6+i*1001)
		for k := range b {
			if i%2 == 0 || k%8 < 4 { // half of them can be compressed by half
				b[k] = byte(r.Uint32())
			}
		}
		write(t, filepath.Join(dir, "data", fmt.Sprint(i)), b, 0o644)
		h := fnv.New64a()
		h.Write(b)
		args = append(args, fmt.Sprintf("%x", h.Sum64()))
	}
	compileC(t, 0, "reclaim", filepath.Join(dir, "reclaim"))
	e := boot(t, vmSpec{dir: dir, args: args, memory: memory})
	if got := strings.Join(okLines(e.console), " "); e.how != abi.EndExited || e.code != 0 || got != "read map mixed together" {
		t.Errorf("passed %q: %v", got, e)
	}
}

// TestAlignExec boots a program with each way to place it, and looks where it lies.
func TestAlignExec(t *testing.T) {
	dir := t.TempDir()
	data(t, filepath.Join(dir, "data"))
	compileC(t, 0, "start", filepath.Join(dir, "start"))
	mappable := map[string]int{}
	for _, which := range []string{"auto", "all", "none"} {
		s := vmSpec{dir: dir, args: []string{"/start", "one two", ""}, env: []string{"EMPTY=", "KEY=a value"}, align: which}
		if e := boot(t, s); e.how != abi.EndExited || e.code != 42 || !strings.Contains(e.console, "ok float") {
			t.Errorf("%s: %v", which, e)
		}
		img, err := image.Open(makeImage(t, s))
		if err != nil {
			t.Fatal(err)
		}
		root, err := img.Root()
		if err != nil {
			t.Fatal(err)
		}
		u, err := root.(fsmod.Describer).Usage()
		if err != nil {
			t.Fatal(err)
		}
		mappable[which] = u.Mappable
		if err := img.Close(); err != nil {
			t.Error(err)
		}
	}
	// The program; it and /data/bytes; neither, since both have tails.
	if mappable["auto"] != 1 || mappable["all"] != 2 || mappable["none"] != 0 {
		t.Errorf("files that can be mapped: %v", mappable)
	}
}
