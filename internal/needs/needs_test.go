package needs

import (
	"path/filepath"
	"testing"
)

// ended is a test that records how it ended.
type ended struct {
	testing.TB
	skip, fail string
}

func (e *ended) Helper()           {}
func (e *ended) Skip(args ...any)  { e.skip = args[0].(string) }
func (e *ended) Fatal(args ...any) { e.fail = args[0].(string) }

func TestTool(t *testing.T) {
	const why = "no-such-tool is not installed: apt-get install no-such-package"
	for _, tt := range []struct{ require, skip, fail string }{{"", why, ""}, {"1", "", why}} {
		t.Setenv("REQUIRE_TOOLS", tt.require)
		var e ended
		Tool(&e, "no-such-tool", "no-such-package")
		if e.skip != tt.skip || e.fail != tt.fail {
			t.Errorf("REQUIRE_TOOLS=%s: skipped %q, failed %q", tt.require, e.skip, e.fail)
		}
		e = ended{}
		if path := Tool(&e, "go", "golang-go"); filepath.Base(path) != "go" || e.skip+e.fail != "" {
			t.Errorf("go is %q, skipped %q, failed %q", path, e.skip, e.fail)
		}
	}
}
