package image_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"crypto/sha256"

	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/needs"
)

// key makes a key that depends on n only.
func key(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// signedImages returns an image and a bare file system, signed and not.
func signedImages(t *testing.T) (signed, unsigned map[string][]byte) {
	t.Helper()
	signed, unsigned = map[string][]byte{}, map[string][]byte{}
	for _, sign := range []bool{false, true} {
		s, to := spec(t), unsigned
		if sign {
			s.Sign, to = key(1), signed
		}
		name, _ := write(t, s)
		to["image"] = readFile(t, name)
		name = filepath.Join(t.TempDir(), "bare")
		res, err := image.WriteFSFile(t.Context(), name, s)
		if err != nil {
			t.Fatal(err)
		}
		to["bare"] = readFile(t, name)
		if sum := fmt.Sprintf("%x", sha256.Sum256(to["bare"])); sum != res.Partitions[0].SHA256 {
			t.Errorf("the digest that the writer tells is %s, that of the file %s", res.Partitions[0].SHA256, sum)
		}
	}
	return signed, unsigned
}

func checkSignature(t *testing.T, b []byte, k ed25519.PublicKey) error {
	r := bytes.NewReader(b)
	s, err := image.ReadSignature(r, r.Size())
	if err != nil {
		return err
	}
	return s.Check(t.Context(), r, r.Size(), k)
}

func TestSign(t *testing.T) {
	signed, unsigned := signedImages(t)
	for name, b := range signed {
		// Nothing but the signature's place differs.
		plain := unsigned[name]
		differ := 0
		for i := range b {
			if b[i] != plain[i] {
				differ++
			}
		}
		if len(b) != len(plain) || differ > 108 {
			t.Errorf("%s: signing changes %d bytes", name, differ)
		}
		if err := checkSignature(t, b, public(key(1))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := checkSignature(t, b, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := checkSignature(t, b, public(key(2))); !errors.Is(err, image.ErrWrongKey) || errors.Is(err, image.ErrDamaged) {
			t.Errorf("%s with another key: %v", name, err)
		}
		if err := checkSignature(t, plain, public(key(1))); !errors.Is(err, image.ErrUnsigned) {
			t.Errorf("%s without a signature: %v", name, err)
		}
		if problems, err := image.Verify(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || len(problems) > 0 {
			t.Errorf("%s: %v, %v", name, problems, err)
		}
		// The signature of one image in another: both are sound, but not together.
		mixed := slices.Clone(b)
		mixed = append(mixed, make([]byte, 4096)...)
		if err := checkSignature(t, mixed[:len(mixed)-1], public(key(1))); err == nil {
			t.Errorf("%s: with bytes added, the signature holds", name)
		}
	}
}

// TestSignedEveryByte changes each byte of a signed image: no key accepts it, and Verify finds something.
func TestSignedEveryByte(t *testing.T) {
	signed, _ := signedImages(t)
	for name, good := range signed {
		b := slices.Clone(good)
		for i := range b {
			if (i > 600 && i < 17000 || i > 17408+150) && i%97 != 0 {
				continue
			}
			b[i] ^= 1 << (i % 8)
			if err := checkSignature(t, b, public(key(1))); err == nil || errors.Is(err, image.ErrWrongKey) {
				t.Fatalf("%s: byte %d: %v", name, i, err)
			}
			if i%7 == 0 || i >= 17408 && i < 17408+104 || i < 256 {
				problems, err := image.Verify(t.Context(), bytes.NewReader(b), int64(len(b)))
				if err == nil && len(problems) == 0 {
					t.Fatalf("%s: byte %d: Verify finds nothing", name, i)
				}
			}
			b[i] = good[i]
		}
	}
}

// TestOpenSSL has a key made by openssl, and the signature checked by it.
func TestOpenSSL(t *testing.T) {
	tool := needs.Tool(t, "openssl", "openssl")
	dir := t.TempDir()
	openssl := func(args ...string) []byte {
		cmd := exec.Command(tool, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
		return out
	}
	openssl("genpkey", "-algorithm", "ed25519", "-out", "key")
	openssl("pkey", "-in", "key", "-pubout", "-out", "pub")
	k, err := image.ParsePrivateKey(readFile(t, filepath.Join(dir, "key")))
	if err != nil {
		t.Fatal(err)
	}
	p, err := image.ParsePublicKey(readFile(t, filepath.Join(dir, "pub")))
	if err != nil || !p.Equal(k.Public()) {
		t.Fatalf("the public key is %x, %v, want %x", p, err, k.Public())
	}
	private, pub, err := image.EncodeKey(k)
	if err != nil || !bytes.Equal(private, readFile(t, filepath.Join(dir, "key"))) || !bytes.Equal(pub, readFile(t, filepath.Join(dir, "pub"))) {
		t.Errorf("keys are not spelt as openssl does: %v\n%s%s", err, private, pub)
	}

	s := spec(t)
	s.Sign = k
	name, _ := write(t, s)
	b := readFile(t, name)
	const at = 17408
	sig := slices.Clone(b[at+40 : at+104])
	clear(b[at : at+104])
	text := fmt.Sprintf("firstlight-signature-v1 %d %x\n", len(b), sha256.Sum256(b))
	for name, b := range map[string][]byte{"msg": []byte(text), "sig": sig} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl("pkeyutl", "-verify", "-pubin", "-inkey", "pub", "-rawin", "-in", "msg", "-sigfile", "sig")

	openssl("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa")
	if _, err := image.ParsePrivateKey(readFile(t, filepath.Join(dir, "rsa"))); !errors.Is(err, image.ErrKey) {
		t.Errorf("an RSA key: %v", err)
	}
}

func FuzzParseKeys(f *testing.F) {
	private, pub, err := image.EncodeKey(key(1))
	if err != nil {
		f.Fatal(err)
	}
	if _, err := image.ParsePrivateKey(private); err != nil {
		f.Fatal(err)
	}
	f.Add(private)
	f.Add(pub)
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := image.ParsePrivateKey(b); err == nil && len(k) != ed25519.PrivateKeySize {
			t.Errorf("a key of %d bytes", len(k))
		}
		if k, err := image.ParsePublicKey(b); err == nil && len(k) != ed25519.PublicKeySize {
			t.Errorf("a key of %d bytes", len(k))
		}
	})
}
