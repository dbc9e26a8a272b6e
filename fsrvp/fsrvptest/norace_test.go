//go:build !race

package fsrvptest_test

const raceDetector = false
