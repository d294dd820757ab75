package vfs

// Errno is a Linux error number; 0 is success. The kernel speaks Linux's numbers throughout instead of Go errors: they are
// what the program gets, and making one allocates nothing.
type Errno int

// Error numbers of Linux on x86-64 (include/uapi/asm-generic/errno-base.h and errno.h).
const (
	EPERM        Errno = 1
	ENOENT       Errno = 2
	ESRCH        Errno = 3
	EINTR        Errno = 4
	EIO          Errno = 5
	ENXIO        Errno = 6
	E2BIG        Errno = 7
	ENOEXEC      Errno = 8
	EBADF        Errno = 9
	ECHILD       Errno = 10
	EAGAIN       Errno = 11
	ENOMEM       Errno = 12
	EACCES       Errno = 13
	EFAULT       Errno = 14
	EBUSY        Errno = 16
	EEXIST       Errno = 17
	EXDEV        Errno = 18
	ENODEV       Errno = 19
	ENOTDIR      Errno = 20
	EISDIR       Errno = 21
	EINVAL       Errno = 22
	EMFILE       Errno = 24
	ENOTTY       Errno = 25
	EFBIG        Errno = 27
	ENOSPC       Errno = 28
	ESPIPE       Errno = 29
	EROFS        Errno = 30
	EMLINK       Errno = 31
	EPIPE        Errno = 32
	ERANGE       Errno = 34
	EDEADLK      Errno = 35
	ENAMETOOLONG Errno = 36
	ENOSYS       Errno = 38
	ENOTEMPTY    Errno = 39
	ELOOP        Errno = 40
	ENODATA      Errno = 61
	EOVERFLOW    Errno = 75
	EOPNOTSUPP   Errno = 95
	EAFNOSUPPORT Errno = 97
	ETIMEDOUT    Errno = 110
)

// String returns the text that strerror gives for the errors a load can end with, else "error N".
func (e Errno) String() string {
	switch e {
	case EPERM:
		return "operation not permitted"
	case ENOENT:
		return "no such file or directory"
	case EIO:
		return "input/output error"
	case E2BIG:
		return "argument list too long"
	case ENOEXEC:
		return "exec format error"
	case ENOMEM:
		return "cannot allocate memory"
	case EACCES:
		return "permission denied"
	case ENOTDIR:
		return "not a directory"
	case EISDIR:
		return "is a directory"
	case EINVAL:
		return "invalid argument"
	case ENAMETOOLONG:
		return "file name too long"
	case ELOOP:
		return "too many levels of symbolic links"
	}
	var t Text
	t.Str("error ").Dec(uint64(e))
	return string(t)
}
