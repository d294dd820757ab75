package image

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/firstlight-boot/firstlight/rofs/format"
)

// A signature is Ed25519 (RFC 8032) over one line of text, which says how long the whole image is and what the SHA-256 digest of
// it is, the signature's own place taken as zeros:
//
//	firstlight-signature-v1 SIZE DIGEST
//
// with a newline at its end. docs/signing.md has the layout, and how to check one with other tools.
//
//	off size
//	  0    8  magic "FLSIGN1\n"
//	  8   32  public key
//	 40   64  signature
const (
	signatureMagic = "FLSIGN1\n"
	signatureSize  = 8 + ed25519.PublicKeySize + ed25519.SignatureSize

	signatureSector = gptFirstLBA * SectorSize // of an image: the first sector after the GPT's entries
)

// Errors of signatures and of keys. What is damaged is a *FormatError that wraps ErrDamaged.
var (
	ErrUnsigned = errors.New("not signed")
	ErrWrongKey = errors.New("signed with another key")
	ErrKey      = errors.New("no key that can be used")
)

// place is where the signature of an image lies, and which bytes of it are not signed.
type place struct{ off, from, to int64 }

func signaturePlace(r io.ReaderAt, size int64) (place, error) {
	if foreign, err := isForeign(r, size); err != nil || !foreign {
		return place{signatureSector, signatureSector, signatureSector + signatureSize}, err
	}
	b := make([]byte, len(format.Magic))
	if err := readFull(r, b, 0, size); err != nil && !errors.Is(err, ErrDamaged) {
		return place{}, err
	}
	if !format.Probe(b) {
		return place{}, fmt.Errorf("signature: %w: only images with a kernel and bare ROFS have a place for one", ErrUnsupported)
	}
	// What ROFS leaves free at the end of its superblock, and the check code over that.
	const reserved = 144
	return place{reserved, reserved, format.SuperblockSize}, nil
}

// Signature is the signature of an image, not checked yet.
type Signature struct {
	Key ed25519.PublicKey // with which it was made, as it says

	place
	sig []byte
}

// ReadSignature returns the signature in the size bytes of r. Its error wraps ErrUnsigned if there is none.
func ReadSignature(r io.ReaderAt, size int64) (*Signature, error) {
	p, err := signaturePlace(r, size)
	if errors.Is(err, ErrUnsupported) {
		return nil, fmt.Errorf("%w: a file system of this kind cannot be", ErrUnsigned)
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, signatureSize)
	if err := readFull(r, b, p.off, size); err != nil {
		return nil, err
	}
	if string(b[:len(signatureMagic)]) != signatureMagic {
		return nil, ErrUnsigned
	}
	if p.to == format.SuperblockSize {
		var super format.Superblock
		if err := readFull(r, super[:], 0, size); err != nil {
			return nil, err
		}
		if super.CRC() != super.Sum() || !bytes.Equal(super.Reserved()[signatureSize:], make([]byte, len(super.Reserved())-signatureSize)) {
			return nil, &FormatError{"signature", p.off, "superblock", ErrDamaged}
		}
	}
	b = b[len(signatureMagic):]
	return &Signature{Key: b[:ed25519.PublicKeySize], place: p, sig: b[ed25519.PublicKeySize:]}, nil
}

// Fingerprint is the SHA-256 digest, in hex, of the public key's DER form (SubjectPublicKeyInfo).
func (s *Signature) Fingerprint() string { return Fingerprint(s.Key) }

// Fingerprint is the SHA-256 digest, in hex, of the DER form (SubjectPublicKeyInfo) of a public key.
func Fingerprint(key ed25519.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err) // it has a key of a type that it knows
	}
	return digest(der)
}

// Check checks the signature of the size bytes of r, made with the private key of key; with nil, of the key that it says itself,
// which tells damage but not who signed. The error wraps ErrWrongKey or ErrDamaged, or is r's or ctx's.
func (s *Signature) Check(ctx context.Context, r io.ReaderAt, size int64, key ed25519.PublicKey) error {
	msg, err := signed(ctx, r, size, s.place)
	if err != nil {
		return err
	}
	own := len(s.Key) == ed25519.PublicKeySize && ed25519.Verify(s.Key, msg, s.sig)
	switch {
	case own && (key == nil || bytes.Equal(key, s.Key)):
		return nil
	case own:
		return fmt.Errorf("%w: its fingerprint is %s, the one expected %s", ErrWrongKey, s.Fingerprint(), Fingerprint(key))
	}
	return &FormatError{"signature", s.off, "signature", fmt.Errorf("%w: it is not the signature of these bytes", ErrDamaged)}
}

// signed returns what is signed of the image in r whose signature is at p.
func signed(ctx context.Context, r io.ReaderAt, size int64, p place) ([]byte, error) {
	h := sha256.New()
	buf := make([]byte, 256<<10)
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := buf[:min(int64(len(buf)), size-at)]
		if err := readFull(r, b, at, size); err != nil {
			return nil, err
		}
		if from, to := max(p.from-at, 0), min(p.to-at, int64(len(b))); from < to {
			clear(b[from:to])
		}
		h.Write(b)
		at += int64(len(b))
	}
	return fmt.Appendf(nil, "firstlight-signature-v1 %d %s\n", size, hex.EncodeToString(h.Sum(nil))), nil
}

// Sign signs the image or bare ROFS in the size bytes of w. A signature that is there is replaced.
func Sign(ctx context.Context, w interface {
	io.ReaderAt
	io.WriterAt
}, size int64, key ed25519.PrivateKey) error {
	p, err := signaturePlace(w, size)
	if err != nil {
		return err
	}
	msg, err := signed(ctx, w, size, p)
	if err != nil {
		return err
	}
	b := append([]byte(signatureMagic), key.Public().(ed25519.PublicKey)...)
	b = append(b, ed25519.Sign(key, msg)...)
	if p.to == format.SuperblockSize {
		var super format.Superblock
		if err := readFull(w, super[:], 0, size); err != nil {
			return err
		}
		copy(super[p.off:], b)
		super.SetCRC()
		b = super[p.from:p.to]
	}
	_, err = w.WriteAt(b, p.off)
	return err
}

// signature checks the signature, if there is one, and returns how many bytes it takes at its place.
func (v *verifier) signature() (n int64, err error) {
	s, err := ReadSignature(v.r, v.size)
	if errors.Is(err, ErrUnsigned) {
		return 0, nil
	}
	if err == nil {
		err = s.Check(v.ctx, v.r, v.size, nil)
	}
	if fe := (*FormatError)(nil); errors.As(err, &fe) {
		v.report(fe.Offset, signatureSize, "%s: %v", fe.Field, fe.Err)
		err = nil
	}
	return signatureSize, err
}

// ParsePrivateKey reads an Ed25519 key in PEM (PKCS #8), as openssl genpkey -algorithm ed25519 writes it.
func ParsePrivateKey(b []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(b)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%w: not PEM", ErrKey)
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return nil, fmt.Errorf("%w: the private key is encrypted; openssl pkey -in KEY writes it without a password", ErrKey)
	case block.Type != "PRIVATE KEY":
		return nil, fmt.Errorf("%w: %q instead of a private key", ErrKey, block.Type)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: private key: %w", ErrKey, err)
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: a key of type %T; only Ed25519 is supported: openssl genpkey -algorithm ed25519", ErrKey, k)
	}
	return key, nil
}

// ParsePublicKey reads an Ed25519 public key in PEM, as openssl pkey -pubout writes it.
func ParsePublicKey(b []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(b)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%w: not PEM", ErrKey)
	case block.Type != "PUBLIC KEY":
		return nil, fmt.Errorf("%w: %q instead of a public key; openssl pkey -in KEY -pubout makes one of a private key", ErrKey, block.Type)
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: public key: %w", ErrKey, err)
	}
	key, ok := k.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: a key of type %T; only Ed25519 is supported", ErrKey, k)
	}
	return key, nil
}

// EncodeKey returns a new key's two halves in PEM.
func EncodeKey(key ed25519.PrivateKey) (private, public []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}), nil
}

// CheckSignatureFile checks the signature of the file called path as Signature.Check does. It returns the signature, if there is
// one, with the error.
func CheckSignatureFile(ctx context.Context, path string, key ed25519.PublicKey) (*Signature, error) {
	f, size, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, err := ReadSignature(f, size)
	if err != nil {
		return nil, err
	}
	return s, s.Check(ctx, f, size, key)
}
