// Package qmp is a client of the QEMU Machine Protocol (QEMU, docs/interop/qmp-spec.rst).
package qmp

// Client is a connection to a QMP server.
type Client struct{}
