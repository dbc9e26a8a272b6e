//go:build !linux

package main

func replaceable(string) error { return nil }

func withinPlace(string, string) bool { return false }
