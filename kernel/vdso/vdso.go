// Package vdso holds the shared object that the kernel maps into every program, so that it reads the clock without a system
// call. Image is its one page; the page before it is the data that its code reads, which package ring0 writes.
//
// Package vdsobuild makes Image; its test says when it has to be made again.
package vdso

//go:generate go run ./vdsobuild/cmd

// Offsets in the page of data. Seq is odd while the others change; a program that finds another value after it has read
// them reads them again. While Fine is 0 the code leaves clocks to the kernel.
const (
	DataSeq   = 0  // u32
	DataFine  = 4  // u32
	DataTSC   = 8  // u64: at this TSC
	DataNanos = 16 // u64: the monotonic clock was this many ns,
	DataMult  = 24 // u64: and a tick is this many 2^-32 ns
	DataWall  = 32 // u64: wall clock less monotonic clock, in ns
	DataCPUs  = 40 // u32: which CPU a program runs on: OneCPU, or who tells
	DataSize  = 48
)

// Values of DataCPUs.
const (
	OneCPU    = 0 // it is CPU 0
	CPUTells  = 1 // RDTSCP does
	AskKernel = 2 // the system call does
)

// PageSize is the size of the image and of its data, which lies just before it.
const PageSize = 4096
