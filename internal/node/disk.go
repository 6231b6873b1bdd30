package node

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// probeFile is a file in the data directory that is written to check whether writing is possible.
// probeSize is its size. A batch of orders with its record needs about that much, so the process
// becomes unready at about the time when purchases begin to fail.
const (
	probeFile = "probe"
	probeSize = 128 << 10
)

// probeEvery is how often the disk of the embedded parts is checked.
const probeEvery = time.Second

// watchDisk checks, until ctx ends, whether the data directory of the embedded parts can be
// written. These parts belong to this process alone, so without a writable disk it can't answer
// buyers. Nodes with real servers keep nothing there that buyers need.
func (n *Node) watchDisk(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		n.probeDisk()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// probeDisk checks it once.
func (n *Node) probeDisk() {
	err := tryWriting(filepath.Join(n.cfg.DataDir, probeFile))
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err // everybody can read the readiness, so it must have no names of files
	}
	var before *error
	if err == nil {
		before = n.health.disk.Swap(nil)
	} else {
		before = n.health.disk.Swap(&err)
	}
	switch {
	case err != nil && before == nil:
		n.log.Error("the data directory can't be written: this process is not ready", "data-dir", n.cfg.DataDir, "err", err)
	case err == nil && before != nil:
		n.log.Info("the data directory can be written again", "data-dir", n.cfg.DataDir)
	}
}

// tryWriting writes a file and removes it again.
func tryWriting(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, probeSize))
	return cmp.Or(err, file.Close(), os.Remove(path))
}
