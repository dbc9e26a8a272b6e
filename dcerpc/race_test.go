//go:build race

package dcerpc_test

// raceDetector tells that everything takes many times as long.
const raceDetector = true
