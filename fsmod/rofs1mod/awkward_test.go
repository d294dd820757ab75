package rofs1mod

import (
	"bytes"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
)

func TestAwkward(t *testing.T) {
	want := fsmodtest.Awkward(t, fsmodtest.All&^fsmodtest.Devices)
	b := fsmodtest.Write(t, module{}, want, fsmod.Options{})
	r := bytes.NewReader(b)
	if list, err := (module{}).Check(t.Context(), r, r.Size()); err != nil || len(list) > 0 {
		t.Errorf("Check: %v, %v", list, err)
	}
	fsys, err := module{}.Open(r, r.Size())
	if err != nil {
		t.Fatal(err)
	}
	got, err := fsys.Tree()
	if err != nil {
		t.Fatal(err)
	}
	fsmodtest.Compare(t, got, fsmod.Reduce(want, module{}.Lacks()), nil)
}
