package imgbuild

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestSign signs and verifies by the command.
func TestSign(t *testing.T) {
	app := folder(t, map[string]string{"hello*": string(hello)})
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	imgbuild(t, 0, "keygen", at("key"))
	imgbuild(t, 0, "keygen", at("other"))
	if st, err := os.Stat(at("key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the private key: %v, %v", st.Mode(), err)
	}
	_, text := imgbuild(t, 2, "keygen", at("key"))
	contains(t, "keygen", text, "exists")

	for name, args := range map[string][]string{
		"image": {"--kernel", kernelFile(t), "--cmd", "/hello"}, "bare": {"--no-kernel"},
	} {
		img := at(name)
		args = append(args, "-q", "-o", img, app)
		imgbuild(t, 0, args...)
		imgbuild(t, 0, "verify", img)
		text, _ := imgbuild(t, 1, "verify", "--key", at("key.pub"), img)
		contains(t, "verify", text, "not signed")
		text, _ = imgbuild(t, 1, "verify", "--json", "--key", at("key.pub"), img)
		var report struct {
			OK        bool
			Signature struct{ Status, Key string }
		}
		if err := json.Unmarshal([]byte(text), &report); err != nil || report.OK || report.Signature.Status != "unsigned" {
			t.Errorf("%v: %s", err, text)
		}

		imgbuild(t, 0, append([]string{"--sign", at("key")}, args...)...)
		text, _ = imgbuild(t, 0, "verify", img)
		contains(t, "verify", text, "fine", "signed by the key")
		text, _ = imgbuild(t, 0, "verify", "--key", at("key.pub"), img)
		contains(t, "verify", text, "fine", "signature is valid")
		text, _ = imgbuild(t, 1, "verify", "--key", at("other.pub"), img)
		contains(t, "verify", text, "signed with another key")
		imgbuild(t, 0, "ls", img)

		b, err := os.ReadFile(img)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		put(t, img, b, 0o644)
		text, _ = imgbuild(t, 1, "verify", "--key", at("key.pub"), img)
		contains(t, "verify", text, "signature: damaged image")
	}
	_, text = imgbuild(t, 2, "--sign", at("key.pub"), "--no-kernel", "-o", at("x"), app)
	contains(t, "--sign", text, "private key")
	_, text = imgbuild(t, 2, "verify", "--key", at("key"), at("image"))
	contains(t, "--key", text, "-pubout")
	imgbuild(t, 2, "--sign", at("absent"), "--no-kernel", "-o", at("x"), app)
	if _, err := os.Stat(at("x")); err == nil {
		t.Error("an image was written without a signature")
	}
}
