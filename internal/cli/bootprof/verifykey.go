package bootprof

import (
	"context"
	"fmt"
	"os"

	"github.com/firstlight-boot/firstlight/image"
)

// verifyImage refuses an image that is not signed with the private key that belongs to the public key in keyFile. The image is
// read again when it boots: who may write the file meanwhile can have another one booted.
func verifyImage(ctx context.Context, name, keyFile string) error {
	b, err := os.ReadFile(keyFile)
	if err != nil {
		return usagef("--verify-key: %w", err)
	}
	key, err := image.ParsePublicKey(b)
	if err != nil {
		return usagef("--verify-key: %s: %w", keyFile, err)
	}
	if _, err := image.CheckSignatureFile(ctx, name, key); err != nil {
		return errorf(exitUsage, "%s is not booted: %w", name, fmt.Errorf("%w (--verify-key %s)", err, keyFile))
	}
	return nil
}
