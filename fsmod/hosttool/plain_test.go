package hosttool

import (
	"errors"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod"
)

// TestPlain has the same options refused with the same words.
func TestPlain(t *testing.T) {
	o := fsmod.Options{Hot: func(string) bool { return true }, Layout: make([]fsmod.Use, 1), AlignExec: "all"}
	for range 20 {
		if err := Plain("fat", o); err == nil || !strings.HasPrefix(err.Error(), "hot files: ") {
			t.Fatal(err)
		}
	}
}

// TestUncompressed has a cluster size not called compression.
func TestUncompressed(t *testing.T) {
	for want, o := range map[string]fsmod.Options{
		"compression: not supported by fat": {Codec: "gzip", ClusterSize: 4096}, "a cluster size: not supported by fat": {ClusterSize: 4096},
		"hot files: ": {Codec: "gzip", Hot: func(string) bool { return true }},
	} {
		if err := Uncompressed("fat", o); !errors.Is(err, fsmod.ErrUnsupported) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %s; got %v", want, err)
		}
	}
	if err := Uncompressed("fat", fsmod.Options{}); err != nil {
		t.Error(err)
	}
}
