//go:build race

package rofs_test

const raceEnabled = true
