package rofs_test

import (
	"bytes"
	"cmp"
	"io/fs"
	"slices"
	"testing"

	"github.com/pierrec/lz4/v4"

	"github.com/firstlight-boot/firstlight/rofs"
)

// TestExtents puts every file together from its extents, with another decoder, and finds nothing but zeros beside them.
func TestExtents(t *testing.T) {
	for name, tr := range corpus(t) {
		for _, o := range few(rofs.Options{Raw: func(path string) bool { return len(path)%2 == 0 }}, rofs.Options{}, rofs.Options{Codec: rofs.None}, rofs.Options{Codec: rofs.LZ4HC, ClusterSize: 4096}) {
			image := write(t, tr, o)
			f := open(t, image)
			files := make(map[string][]byte)
			var all, again []rofs.Extent
			if err := f.Extents(func(e rofs.Extent) { all = append(all, e) }); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := f.Extents(func(e rofs.Extent) { again = append(again, e) }); err != nil || !slices.Equal(all, again) {
				t.Errorf("%s: the second time there are other extents, or %v", name, err)
			}
			for _, e := range all {
				if e.Path == "" {
					continue
				}
				stored, content := image[e.Offset:e.Offset+e.Length], make([]byte, e.Size)
				if !e.Packed {
					copy(content, stored)
				} else {
					whole := make([]byte, 1<<20)
					n, err := lz4.UncompressBlock(stored, whole)
					if err != nil || int64(n) < e.Size {
						t.Errorf("%s: %+v: %d bytes, %v", name, e, n, err)
					}
					if copy(content, whole[:n]); int64(n) > e.Size { // a tail, among others
						tail := must(fs.ReadFile(f, e.Path))[e.Start:]
						if copy(content, tail); !bytes.Contains(whole[:n], tail) {
							t.Errorf("%s: %+v: the tail is not in it", name, e)
						}
					}
				}
				if hole := int(e.Start) - len(files[e.Path]); hole >= 0 {
					files[e.Path] = append(append(files[e.Path], make([]byte, hole)...), content...)
				} else {
					t.Errorf("%s: %+v begins before the end of the one before it", name, e)
				}
			}
			for _, e := range must(f.Tree()).Entries {
				if !e.Mode.IsRegular() || e.HardLink != "" {
					if files[e.Path] != nil {
						t.Errorf("%s: %s is no first name of a file and has extents", name, e.Path)
					}
					continue
				}
				if e.Size > 1<<24 { // nothing but holes at its end
					continue
				}
				want := must(fs.ReadFile(f, e.Path))
				if len(want) <= 128 { // inline
					continue
				}
				if got := files[e.Path]; len(got) > len(want) || !bytes.Equal(want[:len(got)], got) || !zero(want[len(got):]) {
					t.Errorf("%s: the extents of %s make %d other bytes, want %d", name, e.Path, len(got), len(want))
				}
			}
			slices.SortFunc(all, func(a, b rofs.Extent) int { return cmp.Compare(a.Offset, b.Offset) })
			at := int64(0)
			for i, e := range all {
				if i > 0 && e.Packed && e.Offset == all[i-1].Offset && e.Length == all[i-1].Length { // shared
					continue
				}
				if e.Offset < at || !zero(image[at:e.Offset]) {
					t.Errorf("%s: before %+v there is something else from %d on", name, e, at)
				}
				at = e.Offset + e.Length
			}
			if !zero(image[at:]) {
				t.Errorf("%s: there is something after the last extent", name)
			}
		}
	}
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
