package ramfs

// Errno is an error of a file system call, with Linux's number for it.
type Errno int

// The errors that this package returns (include/uapi/asm-generic/errno-base.h and errno.h).
const (
	EPERM        Errno = 1
	ENOENT       Errno = 2
	E2BIG        Errno = 7
	EEXIST       Errno = 17
	EXDEV        Errno = 18
	ENOTDIR      Errno = 20
	EISDIR       Errno = 21
	EINVAL       Errno = 22
	EFBIG        Errno = 27
	ENOSPC       Errno = 28
	EMLINK       Errno = 31
	ERANGE       Errno = 34
	ENAMETOOLONG Errno = 36
	ENOTEMPTY    Errno = 39
	ENODATA      Errno = 61
)

// Error returns the text that strerror has.
func (e Errno) Error() string {
	switch e {
	case EPERM:
		return "operation not permitted"
	case ENOENT:
		return "no such file or directory"
	case E2BIG:
		return "argument list too long"
	case EEXIST:
		return "file exists"
	case EXDEV:
		return "invalid cross-device link"
	case ENOTDIR:
		return "not a directory"
	case EISDIR:
		return "is a directory"
	case EINVAL:
		return "invalid argument"
	case EFBIG:
		return "file too large"
	case ENOSPC:
		return "no space left on device"
	case EMLINK:
		return "too many links"
	case ERANGE:
		return "numerical result out of range"
	case ENAMETOOLONG:
		return "file name too long"
	case ENOTEMPTY:
		return "directory not empty"
	case ENODATA:
		return "no data available"
	}
	return "unknown error"
}
