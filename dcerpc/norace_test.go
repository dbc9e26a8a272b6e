//go:build !race

package dcerpc_test

const raceDetector = false
