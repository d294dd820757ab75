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

// FuzzRoot reads the root's mode, owner and time from an image with changes.
func FuzzRoot(f *testing.F) {
	needs.Tool(f, tool, pkg)
	// xorriso drops the special bits of a root that it writes.
	want := tree.Entry{Path: ".", Mode: fs.ModeDir | 0o501, UID: 5, GID: 70_000, ModTime: time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)}
	tr, err := tree.New(want)
	if err != nil {
		f.Fatal(err)
	}
	seed := fsmodtest.Write(f, module{}, tr, fsmod.Options{})
	var got tree.Entry
	if setRoot(bytes.NewReader(seed), &got); got.Mode != want.Mode || got.UID != want.UID || got.GID != want.GID || !got.ModTime.Equal(want.ModTime) {
		f.Fatalf("the root is %+v, want %+v", got, want)
	}
	f.Add(uint32(volumeDescriptor+pvdRoot), []byte{34})
	f.Add(uint32(volumeDescriptor+pvdRoot+recordExtent), []byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, off uint32, change []byte) {
		b := bytes.Clone(seed)
		copy(b[int(off)%len(b):], change)
		setRoot(bytes.NewReader(b), &tree.Entry{})
	})
}
