//go:build race

package mwtest

// slow says that requests take a multiple of their time, under the race detector.
const slow = true
