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

// probeFile is the name of the file in the data directory that is written to see whether anything
// can be, and probeSize its size: as much as a batch of orders with its record needs, so that the
// process turns unready about when purchases begin to fail.
const (
	probeFile = "probe"
	probeSize = 128 << 10
)

// probeEvery is how often the disk of the embedded parts is tried.
const probeEvery = time.Second

// watchDisk tries, until ctx ends, whether the data directory of the embedded parts can be written.
// They belong to this process alone, so it can't answer buyers while it can't: nodes with real
// servers keep nothing there that buyers need.
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

// probeDisk tries it once.
func (n *Node) probeDisk() {
	err := tryWriting(filepath.Join(n.cfg.DataDir, probeFile))
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err // everybody may read the readiness, so it has no names of files
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
