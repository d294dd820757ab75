//go:build !linux

package sample

import "time"

func nap(d time.Duration) { time.Sleep(d) }
