//go:build unix

package main

import "syscall"

// privateFiles has every file and directory that this process makes be its user's alone: the queue
// has buyers' names, and the database has secrets.
func privateFiles() { syscall.Umask(0o077) }
