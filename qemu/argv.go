package qemu

// CommandLine returns c as a line for a POSIX shell: the same machine with the console on the terminal, and without the
// parts that need a supervisor: marks go nowhere, RAM is anonymous, there is no monitor and no counting.
func (q *QEMU) CommandLine(c Config) (string, error) { return "", ErrUnsupported }
