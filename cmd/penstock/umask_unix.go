//go:build unix

package main

import "syscall"

// privateFiles makes all new files and directories of this process readable by its user only: the
// queue has buyers' names, and the database has secrets.
func privateFiles() { syscall.Umask(0o077) }
