package qemu

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// TestProbeGuest shows that the probe guest itself is right: it runs where everything works.
func TestProbeGuest(t *testing.T) {
	r, _, _ := run(t, find(t), Config{KernelImage: probeKernel(), MemoryBytes: 16 << 20})
	if v, ok := r.GuestExit(); v != probeExit || !ok {
		t.Errorf("exit %d %v, want %d", v, ok, probeExit)
	}
}

// TestChoose sees KVM used where it works and TCG where it does not, whichever this host is.
func TestChoose(t *testing.T) {
	q := find(t)
	auto, err := q.Choose(t.Context(), Auto)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", auto)
	if auto.Cached || auto.Reason == "" || strings.Contains(auto.Reason, "\n") {
		t.Errorf("first answer %+v", auto)
	}
	_, err = q.Choose(t.Context(), KVM)
	if works := auto.Accel == KVM; works != (err == nil) || !works && !errors.Is(err, ErrAccel) {
		t.Errorf("auto is %s, KVM is %v", auto.Accel, err)
	}
	if c, err := q.Choose(t.Context(), TCG); err != nil || c.Accel != TCG {
		t.Errorf("TCG: %+v, %v", c, err)
	}
	if _, err := q.Choose(t.Context(), "hvf"); !errors.Is(err, ErrConfig) {
		t.Errorf("hvf: %v", err)
	}

	if dev, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		t.Skipf("nothing is cached where /dev/kvm does not open: %v", err)
	} else {
		dev.Close()
	}
	again, err := q.Choose(t.Context(), Auto)
	if err != nil || !again.Cached || again.Accel != auto.Accel || again.Reason != auto.Reason {
		t.Errorf("second answer %+v, %v", again, err)
	}
	if err := os.WriteFile(q.probeCache(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := q.Choose(t.Context(), Auto); err != nil || c.Cached || c.Accel != auto.Accel {
		t.Errorf("with a damaged cache: %+v, %v", c, err)
	}
	other := *q
	other.Path = "/bin/sh"
	if other.probeCache() == q.probeCache() {
		t.Error("two QEMUs share a verdict")
	}
	other.CacheDir = ""
	other.Path = q.Path
	if c, err := other.Choose(t.Context(), Auto); err != nil || c.Cached || c.Accel != auto.Accel {
		t.Errorf("without a cache: %+v, %v", c, err)
	}
}

// TestKVMError shows that a guest which KVM gives up on does not sit until its deadline.
func TestKVMError(t *testing.T) {
	q := find(t)
	choice, err := q.Choose(t.Context(), Auto)
	if err != nil {
		t.Fatal(err)
	}
	if choice.Accel == KVM || strings.Contains(choice.Reason, "not available") {
		t.Skip("this host's KVM does not fail: " + choice.Reason)
	}
	vm, err := q.Start(limited(t), Config{Accel: KVM, CPU: "host,-arch-capabilities", KernelImage: probeKernel()}, Events{})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if _, err := vm.Wait(); !errors.Is(err, ErrFailed) {
		t.Errorf("got %v", err)
	}
}
