package protocol

// rebuildStage is how far a rebuild has come.
type rebuildStage uint8

const (
	rebuildNone     rebuildStage = iota
	rebuildClosed                // it has closed the shard
	rebuildWaited                // and no older attempt may answer 202 any more
	rebuildSnapshot              // and it has fenced the item and read the snapshot
)

// rebuildSteps are those of the rebuilder: close, wait out, drain and snapshot, open. Only one runs at a time (a lock in the
// database), but one that crashed may leave its closed mark.
func (w *walk) rebuildSteps(s *state) {
	switch s.rebuild.stage {
	case rebuildNone:
		w.closeShard(s)
	case rebuildClosed:
		if !w.olderAttempts(s) || w.Without == NoWait {
			t := *s
			t.rebuild.stage, t.rebuild.end = rebuildWaited, s.logged
			w.next("rebuild waited out", &t)
		}
	case rebuildWaited:
		if s.committed >= s.rebuild.end || w.Without == NoDrain {
			t := *s
			w.fence(&t)
			w.next("rebuild snapshot", &t)
		}
	case rebuildSnapshot:
		t := *s
		t.rebuild = rebuild{}
		if s.redis.epoch == s.rebuild.epoch && s.redis.closed {
			t.redis = shard{epoch: s.redis.epoch, available: s.rebuild.available, holds: s.rebuild.holds}
			w.next("rebuild opens", &t)
		} else {
			w.next("rebuild refused", &t)
		}
	}
	if s.rebuild.stage != rebuildNone && s.rebuilderCrashes < int8(w.RebuilderCrashes) {
		t := *s
		t.rebuilderCrashes++
		t.rebuild = rebuild{}
		w.next("rebuilder crash", &t)
	}
}

// closeShard takes the next epoch and writes the closed mark, unless a later one stands. It counts when the replicas have it
// too: a failover that forgot it would revive an epoch whose records the workers are about to skip.
func (w *walk) closeShard(s *state) {
	if s.nextEpoch >= int8(w.Epochs) || s.redis.epoch >= s.nextEpoch+1 {
		return
	}
	t := *s
	t.nextEpoch++
	t.empty(t.nextEpoch, true)
	t.rebuild = rebuild{stage: rebuildClosed, epoch: t.nextEpoch}
	t.lossy = false
	if w.Rollback && w.Without != NoCloseWait {
		t.replica = t.redis
	}
	w.next("rebuild closes", &t)
}

// olderAttempts reports whether an attempt of an older epoch may still answer 202.
func (w *walk) olderAttempts(s *state) bool {
	for a := range w.Attempts {
		if s.attempts[a].live() && s.attempts[a].epoch < s.rebuild.epoch {
			return true
		}
	}
	return false
}

// fence is the rebuilder's transaction: the item gets the new epoch, and the snapshot is what the database knows now. Stock
// changes that it counts leave the outbox.
func (w *walk) fence(t *state) {
	t.rebuild.stage = rebuildSnapshot
	t.itemEpoch = max(t.itemEpoch, t.rebuild.epoch)
	t.rebuild.available = t.total - t.claimed()
	if w.Without != NoAbsorb {
		if t.merchant.restock == restockCommitted {
			t.merchant.restock = restockDone
		}
		t.merchant.withdrawalOutbox = false
	}
	for o := range w.Orders {
		t.rebuild.holds[o] = t.orders[o].row.asHold()
	}
}
