package isomod

import (
	"bytes"
	"io/fs"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/tree"
)

// FuzzRootTime reads the root's time from an image with changes.
func FuzzRootTime(f *testing.F) {
	needs.Tool(f, tool, pkg)
	at := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	tr, err := tree.New(tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755, ModTime: at})
	if err != nil {
		f.Fatal(err)
	}
	seed := fsmodtest.Write(f, module{}, tr, fsmod.Options{})
	if got, ok := rootTime(bytes.NewReader(seed)); !ok || !got.Equal(at) {
		f.Fatalf("the root is of %v, %v, want %v", got, ok, at)
	}
	f.Add(uint32(volumeDescriptor+pvdRoot), []byte{34})
	f.Add(uint32(volumeDescriptor+pvdRoot+recordExtent), []byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, off uint32, change []byte) {
		b := bytes.Clone(seed)
		copy(b[int(off)%len(b):], change)
		rootTime(bytes.NewReader(b))
	})
}
