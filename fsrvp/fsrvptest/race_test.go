//go:build race

package fsrvptest_test

// raceDetector reports that the test's binary needs memory for the race detector.
const raceDetector = true
