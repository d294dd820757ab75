package imgbuild

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/image"
)

// readKey reads a key from a PEM file.
func readKey[K any](name string, parse func([]byte) (K, error)) (key K, err error) {
	f, err := os.Open(name)
	if err != nil {
		return key, usageError{err}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10)) // a key is short
	if err != nil {
		return key, usageError{err}
	}
	if key, err = parse(b); err != nil {
		return key, usageError{fmt.Errorf("%s: %w", name, err)}
	}
	return key, nil
}

// signatureReport is what verify says of an image's signature, as JSON.
type signatureReport struct {
	Status string `json:"status"`        // "valid", "unsigned", "wrong key", "damaged"; "present" if no key was given to check it with
	Key    string `json:"key,omitempty"` // fingerprint of the key that it says it was made with
	err    error  // why it is not accepted
}

func (s signatureReport) String() string {
	switch s.Status {
	case "valid":
		return "the signature is valid, by the key " + s.Key
	case "present":
		return "signed by the key " + s.Key + ", which --key PUB checks"
	}
	return s.err.Error()
}

// checkSignature tells what signature an image has. Without a key, it is nil for an image that has none.
func checkSignature(ctx context.Context, path string, key ed25519.PublicKey) (*signatureReport, error) {
	sig, err := image.CheckSignatureFile(ctx, path, key)
	r := &signatureReport{err: err}
	if sig != nil {
		r.Key = sig.Fingerprint()
	}
	switch {
	case err == nil && key == nil:
		r.Status = "present"
	case err == nil:
		r.Status = "valid"
	case errors.Is(err, image.ErrUnsigned) && key == nil:
		return nil, nil
	case errors.Is(err, image.ErrUnsigned):
		r.Status = "unsigned"
	case errors.Is(err, image.ErrWrongKey):
		r.Status = "wrong key"
	case errors.Is(err, image.ErrDamaged):
		r.Status = "damaged"
	default:
		return nil, err
	}
	return r, nil
}

func keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen KEY",
		Short: "Make a key for signing images",
		Long: `Make an Ed25519 key: the private key in the file KEY, which only its owner can read, and the public key in KEY.pub. Neither may be
there before. Both are as those of openssl genpkey -algorithm ed25519 and openssl pkey -pubout.`,
		Example: "  imgbuild keygen release.key\n  imgbuild --sign release.key app/\n  imgbuild verify --key release.key.pub app.img",
		Args:    exactArgs(1, "a file for the key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, key, err := ed25519.GenerateKey(nil)
			if err != nil {
				return err
			}
			private, public, err := image.EncodeKey(key)
			if err != nil {
				return err
			}
			if err := writeNew(args[0], private, 0o600); err != nil {
				return err
			}
			if err := writeNew(args[0]+".pub", public, 0o644); err != nil {
				os.Remove(args[0])
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: fingerprint %s\n", args[0], image.Fingerprint(key.Public().(ed25519.PublicKey)))
			return err
		},
	}
}

// writeNew writes a file that is not there yet, wholly or not at all.
func writeNew(name string, b []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return usageError{err}
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(name)
	}
	return err
}
