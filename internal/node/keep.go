package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/penstock/penstock/internal/atomicfile"
	"github.com/penstock/penstock/seckill"
)

// keptFile is the name of the kept catalog in the data directory.
const keptFile = "catalog.kept"

// keepMagic is the beginning of the file. It has the version of the head before the catalog: the
// number of shards and of the topic's partitions, each in 4 bytes, big endian.
const keepMagic = "penstock node\n\x01"

// keptNode is what a process keeps on disk for a start without its servers.
type keptNode struct {
	catalog    *seckill.Catalog // nil if nothing is kept
	rows       []seckill.ShardRow
	partitions int // of the queue
}

// writeKept replaces the file at path, completely or not at all. Only this user may read it,
// because it has payment secrets.
func writeKept(path string, k *keptNode) error {
	file, err := atomicfile.Create(path, 0o600)
	if err != nil {
		return err
	}
	head := []byte(keepMagic)
	head = binary.BigEndian.AppendUint32(head, uint32(len(k.rows)))
	head = binary.BigEndian.AppendUint32(head, uint32(k.partitions))
	_, err = file.Write(head)
	if err == nil {
		err = seckill.WriteCatalog(file, k.catalog, k.rows)
	}
	if err != nil {
		return errors.Join(err, file.Discard())
	}
	return file.Commit()
}

// readKept reads the file at path, for an installation with that many shards.
func readKept(path string, shards int) (k keptNode, err error) {
	file, err := os.Open(path)
	if err != nil {
		return keptNode{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	in := bufio.NewReader(file)
	head := make([]byte, len(keepMagic)+8)
	if _, err := io.ReadFull(in, head); err != nil || string(head[:len(keepMagic)]) != keepMagic {
		return keptNode{}, seckill.ErrCatalogFile
	}
	head = head[len(keepMagic):]
	if n := binary.BigEndian.Uint32(head); n != uint32(shards) && n != 0 {
		return keptNode{}, fmt.Errorf("%w: it belongs to an installation with %d shards", seckill.ErrCatalogFile, n)
	}
	k.partitions = int(binary.BigEndian.Uint32(head[4:]))
	k.catalog, k.rows, err = seckill.ReadCatalog(in, time.Now())
	return k, err
}

// restore reads the kept catalog and shards. Without a valid file it does nothing.
func (n *Node) restore() {
	if !n.cfg.Real() {
		return // the embedded database is always available
	}
	path := filepath.Join(n.cfg.DataDir, keptFile)
	began := time.Now()
	kept, err := readKept(path, n.cfg.Sale.Shards)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		n.log.Warn("the catalog kept on disk can't be used; it comes from the database", "path", path, "err", err)
	default:
		n.kept = kept
		n.log.Info("catalog read from disk", "path", path, "took", time.Since(began))
	}
}

// The pace of keeping: how often to check for changes, and for how many times the duration of the
// last write the disk is not written.
const (
	keepEvery = 5 * time.Second
	keepRest  = 20
)

// keepCatalog keeps the catalog on disk whenever it has changed, until ctx ends.
func (n *Node) keepCatalog(ctx context.Context) {
	path := filepath.Join(n.cfg.DataDir, keptFile)
	if err := os.MkdirAll(n.cfg.DataDir, 0o700); err != nil {
		n.log.Warn("the catalog is not kept on disk: a start needs the database", "data-dir", n.cfg.DataDir, "err", err)
		return
	}
	last, failing := keptNode{}, false
	rest := keepEvery
	timer := time.NewTimer(rest)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := keptNode{n.sale.Desk.Catalog(), n.sale.Rows(), len(n.servers.queue.Partitions())}
		if now.catalog.Version != (seckill.CatalogVersion{}) && !now.same(&last) {
			began := time.Now()
			err := writeKept(path, &now)
			rest = max(keepEvery, keepRest*time.Since(began))
			switch {
			case err == nil:
				last, failing = now, false
			case !failing:
				failing = true
				n.log.Error("the catalog is not kept on disk", "path", path, "err", err)
			}
		}
		timer.Reset(rest)
	}
}

// same reports whether there is nothing new.
func (k *keptNode) same(other *keptNode) bool {
	if k.catalog != other.catalog || k.partitions != other.partitions || len(k.rows) != len(other.rows) {
		return false
	}
	for i := range k.rows {
		if k.rows[i].Ref != other.rows[i].Ref {
			return false
		}
	}
	return true
}
