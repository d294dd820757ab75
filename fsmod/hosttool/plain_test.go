package hosttool

import (
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
