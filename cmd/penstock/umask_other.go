//go:build !unix

package main

// privateFiles does nothing on systems without file modes.
func privateFiles() {}
