package imgbuild

import (
	"fmt"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/image"
)

// storage returns how the root's content is stored, or nil where its module does not tell.
func storage(img *image.Image) (*fsmod.Usage, error) {
	fsys, err := img.Root()
	if err != nil {
		return nil, err
	}
	d, ok := fsys.(fsmod.Describer)
	if !ok {
		return nil, nil
	}
	u, err := d.Usage()
	return &u, err
}

// shownOrder is how much of the order of the content is printed for people.
const shownOrder = 8

func printStorage(line func(name, format string, args ...any), u *fsmod.Usage) {
	for _, c := range u.Codecs {
		line("codec", "%s: %d clusters, %s in %s", c.Codec, c.Clusters, formatSize(c.Bytes), formatSize(c.Stored))
	}
	line("files", "%d with a packed tail, %d inline, %d that can be mapped without a copy", u.Tails, u.Inline, u.Mappable)
	line("saved", "%d shared clusters and tails, %s; %d holes", u.Shared, formatSize(u.SharedBytes), u.Holes)
	if u.Digest != "" {
		line("digest", "%s", u.Digest)
	}
	for i, r := range u.Order {
		name := ""
		if i == 0 {
			name = "order"
		}
		if i == shownOrder {
			line(name, "… (--json shows more)")
			break
		}
		line(name, "%s", fmt.Sprintf("%s, bytes %d to %d", printable("/"+r.Path), r.Offset, r.Offset+r.Length-1))
	}
}
