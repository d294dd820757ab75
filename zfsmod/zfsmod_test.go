package zfsmod

import (
	"bytes"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
)

// TestAwkward reads back what was written, for all readers and codecs.
func TestAwkward(t *testing.T) {
	tr := fsmodtest.Awkward(t, fsmodtest.All)
	for name, k := range compats {
		for _, codec := range []string{"none", "lz4", "lzjb", "zle", "gzip"} {
			if codec == "lz4" && !k.lz4 {
				continue
			}
			t.Run(name+"/"+codec, func(t *testing.T) {
				b := fsmodtest.Write(t, Config{Compat: name}.Module(), tr, fsmod.Options{Codec: codec})
				f, err := Open(bytes.NewReader(b), int64(len(b)))
				if err != nil {
					t.Fatal(err)
				}
				fsmodtest.Compare(t, f.Tree, tr, nil)
			})
		}
	}
}
