package boottrace

import "strconv"

// The guest speaks Linux whatever the host does, so its numbers are named here and not by package syscall.

// signals are the names of Linux's signals 1 to 31 on x86-64; signal(7).
var signals = [...]string{1: "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL",
	"SIGUSR1", "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP",
	"SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR", "SIGSYS"}

func signalName(n uint32) string {
	if n > 0 && n < uint32(len(signals)) {
		return signals[n]
	}
	return "signal " + strconv.FormatUint(uint64(n), 10)
}

// errnos are the texts of the errors that starting a program can end in; execve(2).
var errnos = map[uint32]string{1: "operation not permitted (EPERM)", 2: "no such file (ENOENT)", 5: "input/output error (EIO)",
	7: "argument list too long (E2BIG)", 8: "not a program that this kernel can run (ENOEXEC)", 12: "out of memory (ENOMEM); give it more with --memory",
	13: "permission denied (EACCES)", 20: "not a directory (ENOTDIR)", 21: "is a directory (EISDIR)", 22: "invalid argument (EINVAL)",
	38: "not implemented (ENOSYS)", 40: "too many symbolic links (ELOOP)"}

func errnoText(n uint32) string {
	if s := errnos[n]; s != "" {
		return s
	}
	return "error " + strconv.FormatUint(uint64(n), 10)
}
