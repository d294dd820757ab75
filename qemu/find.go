package qemu

import "context"

// EnvBinary names the environment variable that overrides the search of PATH.
const EnvBinary = "FIRSTLIGHT_QEMU"

// QEMU is an installed QEMU.
type QEMU struct {
	Path     string
	Version  Version
	CacheDir string // holds probe results and the compiled plugin; Find takes the user's cache directory
}

// Version is a QEMU version.
type Version struct{ Major, Minor, Micro int }

// Find returns the QEMU at path; if path is empty, the one that $FIRSTLIGHT_QEMU names; if that is empty too,
// qemu-system-x86_64 of PATH. The error wraps ErrNotFound or ErrTooOld and says what to install.
func Find(ctx context.Context, path string) (*QEMU, error) { return nil, ErrNotFound }

// Choice is the accelerator for a guest and why it was chosen.
type Choice struct {
	Accel  Accel
	Reason string // one line, such as "KVM cannot run guests here: …"
	Cached bool   // known from an earlier probe
}

// Choose turns a wish into an accelerator. Auto takes KVM if it ran the probe guest, else TCG; TCG needs no probe; KVM
// that failed its probe is an error that wraps ErrAccel.
func (q *QEMU) Choose(ctx context.Context, want Accel) (Choice, error) { return Choice{}, ErrAccel }

// FloorKernel returns the floor guest: a PVH ELF whose first act is to write FloorExit to the exit port. Boot it as
// Config.KernelImage with everything else as in the boots that it is compared with.
func FloorKernel() []byte { return nil }

// FloorExit is what the floor guest's GuestExit returns. It is not 0, so that it cannot be taken for a failure of QEMU.
const FloorExit = 42
