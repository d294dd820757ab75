package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Choice is the accelerator for a guest and why it was chosen.
type Choice struct {
	Accel  Accel
	Reason string // one line, such as "KVM cannot run guests here: …"
	Cached bool   // known from an earlier probe
}

// probeTimeout bounds the probe guest, which needs some 50 ms where KVM works.
const probeTimeout = 5 * time.Second

// Choose turns a wish into an accelerator. Auto takes KVM if it ran the probe guest, else TCG; TCG needs no probe; KVM
// that failed its probe is an error that wraps ErrAccel.
func (q *QEMU) Choose(ctx context.Context, want Accel) (Choice, error) {
	switch want {
	case TCG, "":
		return Choice{Accel: TCG, Reason: "asked for"}, nil
	case KVM, Auto:
	default:
		return Choice{}, fmt.Errorf("%w: accelerator %q: want auto, kvm or tcg", ErrConfig, want)
	}
	problem, cached, err := q.probeKVM(ctx, want)
	switch {
	case err != nil:
		return Choice{}, err
	case problem == "" && want == KVM:
		return Choice{KVM, "asked for; it ran the probe guest", cached}, nil
	case problem == "":
		return Choice{KVM, "KVM ran the probe guest", cached}, nil
	case want == KVM:
		return Choice{}, fmt.Errorf("%w: %s; use --accel tcg", ErrAccel, problem)
	}
	return Choice{TCG, problem, cached}, nil
}

// verdict is a probe's result as it is cached.
type verdict struct{ Problem string }

// probeKVM says what keeps KVM from running guests, "" if nothing does. Who insists on KVM is not refused for what an
// earlier probe saw. The error is for a probe that could not be made.
func (q *QEMU) probeKVM(ctx context.Context, want Accel) (problem string, cached bool, err error) {
	// Opening the device is cheap and its answer changes with the user, so it is never cached.
	dev, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return fmt.Sprintf("KVM is not available: %v", err), false, nil
	}
	dev.Close()

	cache := q.probeCache()
	if data, err := os.ReadFile(cache); err == nil {
		var v verdict
		if json.Unmarshal(data, &v) == nil && (v.Problem == "" || want == Auto) {
			return v.Problem, true, nil
		}
	}
	problem, err = q.runProbe(ctx)
	if err != nil {
		return "", false, err
	}
	if cache != "" {
		// A cache that cannot be written costs the next run a probe, no more.
		_ = storeVerdict(cache, verdict{problem})
	}
	return problem, false, nil
}

// runProbe boots the probe guest under KVM.
func (q *QEMU) runProbe(ctx context.Context) (problem string, err error) {
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	vm, err := q.Start(limited, Config{Accel: KVM, KernelImage: probeKernel(), MemoryBytes: 16 << 20}, Events{})
	if err != nil {
		return "", err
	}
	defer vm.Close()
	result, err := vm.Wait()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	var run *RunError
	switch value, ok := result.GuestExit(); {
	case errors.As(err, &run) && errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("KVM is there but the probe guest did not end in %v", probeTimeout), nil
	case errors.As(err, &run):
		return "KVM is there but cannot run the probe guest: " + firstComplaint(run.Stderr), nil
	case err != nil:
		return "", err
	case !ok || value != probeExit:
		return fmt.Sprintf("KVM is there but the probe guest went wrong (QEMU's exit status %d)", result.Status), nil
	}
	return "", nil
}

// probeCache returns the file that holds the verdict for this kernel, boot, QEMU and device, or "" without a cache.
func (q *QEMU) probeCache() string {
	if q.CacheDir == "" {
		return ""
	}
	h := sha256.New()
	for _, path := range []string{"/proc/sys/kernel/osrelease", "/proc/sys/kernel/random/boot_id"} {
		data, err := os.ReadFile(path)
		if err != nil {
			return ""
		}
		fmt.Fprintf(h, "%q\n", data)
	}
	for _, path := range []string{q.Path, "/dev/kvm"} {
		info, err := os.Stat(path)
		if err != nil {
			return ""
		}
		fmt.Fprintf(h, "%q %v %d %d %s\n", path, info.Mode(), info.Size(), info.ModTime().UnixNano(), deviceID(info))
	}
	fmt.Fprintf(h, "%x\n", sha256.Sum256(probeKernel()))
	return filepath.Join(q.CacheDir, "kvm-"+hex.EncodeToString(h.Sum(nil)[:12])+".json")
}

// storeVerdict writes v beside path and renames it into place.
func storeVerdict(path string, v verdict) (err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "kvm-*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
