package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Where the host's kernel says whether shared memory gets huge pages (Linux,
// Documentation/admin-guide/mm/transhuge.rst).
const (
	shmemPages   = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
	shmemPagesOf = "/sys/kernel/mm/transparent_hugepage/hugepages-*/shmem_enabled"
)

// sharedHugePages reports whether the host may back a memfd with huge pages, since QEMU advises it to. One touched byte
// would then count as 2 MiB.
func sharedHugePages() bool {
	paths, _ := filepath.Glob(shmemPagesOf) // the pattern is well-formed
	for _, path := range append(paths, shmemPages) {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // a kernel without huge pages
		}
		for _, on := range []string{"[always]", "[within_size]", "[advise]", "[force]"} {
			if strings.Contains(string(data), on) {
				return true
			}
		}
	}
	return false
}

var thp sync.Mutex

// withoutHugePages calls f such that the processes it starts get no huge pages. Linux has no such attribute for a new
// process, only one of the current process that is inherited; it is put back, and takes nothing from the memory that the
// process has already.
func withoutHugePages(f func() error) error {
	thp.Lock()
	defer thp.Unlock()
	was, err := unix.PrctlRetInt(unix.PR_GET_THP_DISABLE, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("huge pages: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("huge pages: %w", err)
	}
	err = f()
	if perr := unix.Prctl(unix.PR_SET_THP_DISABLE, uintptr(was), 0, 0, 0); perr != nil && err == nil {
		return fmt.Errorf("huge pages: %w", perr)
	}
	return err
}
