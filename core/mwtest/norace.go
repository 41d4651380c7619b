//go:build !race

package mwtest

const slow = false
