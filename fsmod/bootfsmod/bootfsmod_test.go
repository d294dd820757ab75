package bootfsmod

import (
	"slices"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/internal/osvtest"
	"github.com/firstlight-boot/firstlight/tree"
)

func TestModule(t *testing.T) { fsmodtest.OSv(t, Ordered(osvtest.Order()), osvtest.BootFS) }

func TestAwkward(t *testing.T) {
	want := fsmodtest.Awkward(t, fsmodtest.All&^fsmodtest.Devices)
	want.Entries = slices.DeleteFunc(want.Entries, func(e tree.Entry) bool { return len(e.Path) > 100 })
	fsmodtest.Reduced(t, module{}, want)
}
