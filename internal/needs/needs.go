// Package needs is for tests that work with what other projects made: a test skips, naming what is missing, and fails where
// REQUIRE_TOOLS=1 says that everything has to be there.
package needs

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Tool returns the path of a program of the Debian package pkg, which may lie in a folder that a user's PATH lacks.
func Tool(t testing.TB, name, pkg string) string {
	t.Helper()
	for _, file := range []string{name, "/usr/sbin/" + name, "/sbin/" + name} {
		if path, err := exec.LookPath(file); err == nil {
			return path
		}
	}
	Missing(t, fmt.Sprintf("%s is not installed: apt-get install %s", name, pkg))
	return ""
}

// Missing ends the test for want of what why says.
func Missing(t testing.TB, why string) {
	t.Helper()
	end := t.Skip
	if os.Getenv("REQUIRE_TOOLS") == "1" {
		end = t.Fatal
	}
	end(why)
}
