package rofs1mod

import (
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/internal/osvtest"
)

func TestModule(t *testing.T) { fsmodtest.OSv(t, Ordered(osvtest.Order()), osvtest.ROFS) }

func TestAwkward(t *testing.T) {
	fsmodtest.Reduced(t, module{}, fsmodtest.Awkward(t, fsmodtest.All&^fsmodtest.Devices))
}
