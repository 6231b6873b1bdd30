package node

import (
	"context"
	"time"
)

// The pace of storing the last uses of keys. Each node stores a used key at most once a minute.
const (
	noteEvery = 5 * time.Second
	noteMost  = 1_000 // keys stored at a time; the others wait for the next time
)

// noteUses stores the last uses of callers' keys in the database, until ctx ends, and once more at
// the end. Requests only set a number in memory.
func (n *Node) noteUses(ctx context.Context) {
	tick := time.NewTicker(noteEvery)
	defer tick.Stop()
	for failing := false; ; {
		last := false
		select {
		case <-tick.C:
		case <-ctx.Done():
			last = true
		}
		err := n.noteOnce(ctx)
		if (err != nil) != failing && !last {
			failing = err != nil
			if failing {
				n.log.Warn("the last uses of keys can't be stored; trying again", "err", err)
			}
		}
		if last {
			return
		}
	}
}

// noteOnce stores up to noteMost uses.
func (n *Node) noteOnce(ctx context.Context) error {
	uses, noted := n.sale.Desk.Catalog().UnnotedUses(noteMost)
	if len(uses) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.Sale.StoreTimeout)
	defer cancel()
	if err := n.servers.database.NoteKeyUses(ctx, uses); err != nil {
		return err
	}
	noted()
	return nil
}
