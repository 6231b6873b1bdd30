package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/penstock/penstock/internal/atomicfile"
)

// Names in the data directory.
const (
	lockName     = "lock"
	formatName   = "format"
	epochName    = "epoch"
	queueName    = "queue"
	databaseName = "penstock.db"
)

// formatVersion is the version of the directory's layout that this program reads and writes.
const formatVersion = 1

// Answers of Open that are about the directory and not about its disk.
var (
	// ErrInUse means that another process has the data directory.
	ErrInUse = errors.New("data directory in use")
	// ErrNewer means that a newer version of Penstock wrote the data directory.
	ErrNewer = errors.New("data directory was written by a newer version of Penstock")
	// ErrForeign means that the directory has other things in it than Penstock's.
	ErrForeign = errors.New("not a Penstock data directory")
)

// directory is a data directory that this process uses.
type directory struct {
	path string
	lock *os.File
}

// openDirectory takes the directory, and makes it if needed. It doesn't touch files of others.
func openDirectory(path string) (*directory, error) {
	if err := makeDirectory(path); err != nil {
		return nil, fmt.Errorf("embedded: make the data directory: %w", err)
	}
	if err := checkOurs(path); err != nil {
		return nil, err
	}
	if err := checkFormat(path); err != nil {
		return nil, err
	}
	lock, err := takeLock(path)
	if err != nil {
		return nil, err
	}
	d := &directory{path, lock}
	// With the lock, no other process can write the format.
	err = checkFormat(path)
	if err == nil {
		err = writeFormat(path)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// makeDirectory makes a directory that only its owner can read.
func makeDirectory(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// checkOurs refuses a directory that isn't empty and has no format file. The lock and a
// half-written format file don't count: a first start that dies at once leaves them.
func checkOurs(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("embedded: read the data directory: %w", err)
	}
	foreign := ""
	for _, e := range entries {
		switch e.Name() {
		case formatName:
			return nil
		case lockName, formatName + ".tmp": // earlier releases write .tmp
		case "lost+found", ".snapshot", ".snapshots", ".zfs", ".Trashes", ".DS_Store", ".fseventsd", ".Spotlight-V100",
			"System Volume Information", "$RECYCLE.BIN", "aquota.user", "aquota.group": // what systems put on a fresh volume
		default:
			if !atomicfile.Unfinished(e.Name(), formatName) {
				foreign = e.Name()
			}
		}
	}
	if foreign != "" {
		return fmt.Errorf("embedded: %s: %w (it has no file %q, but %q)", path, ErrForeign, formatName, foreign)
	}
	return nil
}

// takeLock locks the directory for this process, until the process ends.
func takeLock(path string) (*os.File, error) {
	name := filepath.Join(path, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("embedded: open the lock: %w", err)
	}
	if err := flock(f); err != nil {
		defer f.Close()
		if !errors.Is(err, errLocked) {
			return nil, fmt.Errorf("embedded: lock %s: %w", name, err)
		}
		holder := "another process"
		if text, err := os.ReadFile(name); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
				holder = fmt.Sprintf("process %d", pid)
			}
		}
		return nil, fmt.Errorf("embedded: %w: %s is in use by %s", ErrInUse, path, holder)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embedded: write the lock: %w", err), f.Close())
	}
	return f, nil
}

// checkFormat compares the directory's version with ours. A directory without a version is fine.
func checkFormat(path string) error {
	text, err := os.ReadFile(filepath.Join(path, formatName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("embedded: read the format: %w", err)
	}
	version, ok := bytes.CutPrefix(bytes.TrimSpace(text), []byte("penstock "))
	n, err := strconv.Atoi(string(version))
	switch {
	case !ok || err != nil || n < 1:
		return fmt.Errorf("embedded: %s: %w (its %s file says %q)", path, ErrForeign, formatName, text)
	case n > formatVersion:
		return fmt.Errorf("embedded: %s: %w: format %d, this one knows up to %d", path, ErrNewer, n, formatVersion)
	}
	return nil
}

// writeFormat writes the format file if there is none.
func writeFormat(path string) error {
	name := filepath.Join(path, formatName)
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	if err := atomicfile.Write(name, fmt.Appendf(nil, "penstock %d\n", formatVersion), 0o600); err != nil {
		return fmt.Errorf("embedded: write the format: %w", err)
	}
	return nil
}

// nextEpoch returns an epoch that was never returned before for this directory, and is above last.
// It is on the disk before nextEpoch returns, even without Durable.
func (d *directory) nextEpoch(last int32) (int32, error) {
	text, err := os.ReadFile(filepath.Join(d.path, epochName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("embedded: read the epoch: %w", err)
	}
	if err == nil {
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 32)
		if err != nil {
			return 0, fmt.Errorf("embedded: %s: read the epoch: %w", filepath.Join(d.path, epochName), err)
		}
		last = max(last, int32(n))
	}
	next := last + 1
	if err := atomicfile.Write(filepath.Join(d.path, epochName), fmt.Appendf(nil, "%d\n", next), 0o600); err != nil {
		return 0, fmt.Errorf("embedded: write the epoch: %w", err)
	}
	return next, nil
}

// close releases the directory. The lock file stays, because the next process may already be
// opening it.
func (d *directory) close() error {
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("embedded: give back the lock: %w", err)
	}
	return nil
}
