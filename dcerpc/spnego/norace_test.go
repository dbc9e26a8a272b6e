//go:build !race

package spnego_test

// raceFactor is how much slower the race detector makes a test.
const raceFactor = 1
