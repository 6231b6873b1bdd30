// Package atomicfile replaces files. A reader, or a process or machine that dies, finds the old
// file or the new one, and never a part of one.
//
//	err := atomicfile.Write(path, text, 0o600)
//
// or, for a file that is written in pieces and checked before it becomes visible:
//
//	f, err := atomicfile.Create(path, 0o600)
//	if err != nil {
//		return err
//	}
//	defer f.Discard()
//	… // write to f
//	return f.Commit()
//
// It promises that the new file survives a loss of power once Commit has returned nil: the file is
// written beside the old one and synced, renamed, and then its directory is synced. With perm
// 0o600, only the user of the process can read it. After an error of Commit, either file may be
// there.
//
// It does not lock: of two writers, the later one wins. A process that dies leaves its unfinished
// file behind; see Unfinished.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// suffix is the end of the name of an unfinished file.
const suffix = ".new"

// Write replaces the file at path by data. A new file gets perm, less the process's umask.
func Write(path string, data []byte, perm fs.FileMode) error {
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Discard())
	}
	return f.Commit()
}

// File is a file that becomes visible at its path with Commit. It is used by one goroutine.
type File struct {
	path string
	disk disk
	temp *os.File // nil after Commit or Discard
}

// disk has the calls that decide whether a file survives; tests replace them.
type disk struct {
	sync   func(*os.File) error
	rename func(from, to string) error
}

// Create begins a file that will appear at path. The caller must end it with Commit or Discard.
func Create(path string, perm fs.FileMode) (*File, error) {
	return create(path, perm, disk{(*os.File).Sync, os.Rename})
}

func create(path string, perm fs.FileMode, d disk) (*File, error) {
	for {
		name := fmt.Sprintf("%s.%016x%s", path, rand.Uint64(), suffix)
		temp, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
		if errors.Is(err, fs.ErrExist) {
			continue // somebody else's
		}
		if err != nil {
			return nil, err
		}
		return &File{path: path, disk: d, temp: temp}, nil
	}
}

// Write implements io.Writer.
func (f *File) Write(p []byte) (int, error) { return f.temp.Write(p) }

// Commit makes the file appear at its path, and makes that durable. After an error, the new file is
// gone, or it is at its path and may not survive a loss of power.
func (f *File) Commit() error {
	if err := f.disk.sync(f.temp); err != nil {
		return errors.Join(err, f.Discard())
	}
	name := f.temp.Name()
	err := f.temp.Close()
	f.temp = nil
	if err == nil {
		err = f.disk.rename(name, f.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(name))
	}
	directory, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(f.disk.sync(directory), directory.Close())
}

// Discard removes the unfinished file. After Commit it does nothing.
func (f *File) Discard() error {
	if f.temp == nil {
		return nil
	}
	err := errors.Join(f.temp.Close(), os.Remove(f.temp.Name()))
	f.temp = nil
	return err
}

// Unfinished reports whether a file of this name was left by a process that died while it wrote the
// file named of. Both are names without a directory.
func Unfinished(name, of string) bool {
	return strings.HasPrefix(name, of+".") && strings.HasSuffix(name, suffix)
}
