//go:build !firstlight_trace

package ring0

func kernelCall(*frame) {}
