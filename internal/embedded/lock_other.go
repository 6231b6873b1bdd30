//go:build !unix

package embedded

import (
	"errors"
	"os"
)

// errLocked means that another process has the lock.
var errLocked = errors.New("locked")

// flock refuses, because without a lock that ends with its process, two processes could write one
// directory.
func flock(*os.File) error { return errors.ErrUnsupported }
