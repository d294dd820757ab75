package bootprof

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/cli/imgbuild"
)

// TestVerifyKey boots only what is signed with the right key.
func TestVerifyKey(t *testing.T) {
	img := imageOf(t, guest(t))
	dir := t.TempDir()
	key, other := filepath.Join(dir, "key"), filepath.Join(dir, "other")
	var out bytes.Buffer
	for _, k := range []string{key, other} {
		if code := imgbuild.Main([]string{"keygen", k}, &out, &out); code != 0 {
			t.Fatal(out.String())
		}
	}
	refused := func(want string, args ...string) {
		t.Helper()
		code, _, stderr := bootprof(t, append([]string{"qemu", "--dry-run", "--accel", "tcg"}, args...)...)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit code %d, want %q: %s", args, code, want, stderr)
		}
	}
	refused("not signed", "--verify-key", key+".pub", img)
	refused("private key", "--verify-key", key, img)
	refused("goes with an image", "--verify-key", key+".pub", "--kernel", guest(t))

	b, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := image.ParsePrivateKey(b)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil {
		err = image.Sign(t.Context(), f, st.Size(), private)
	}
	if err != nil {
		t.Fatal(err)
	}
	refused("another key", "--verify-key", other+".pub", img)
	t.Chdir(dir)
	needQEMU(t)
	if code, stdout, stderr := bootprof(t, "qemu", img, "--accel", "tcg", "-q", "--verify-key", key+".pub"); code != 0 || !strings.Contains(stdout, "hello from the guest") {
		t.Errorf("a signed image does not boot: exit code %d\n%s%s", code, stdout, stderr)
	}
	if _, err := f.WriteAt([]byte{1}, st.Size()/2); err != nil {
		t.Fatal(err)
	}
	refused("damaged", "--verify-key", key+".pub", img)
}
