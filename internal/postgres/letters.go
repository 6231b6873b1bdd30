package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"penstock/seckill"
)

const letterColumns = `id, order_id, "partition", "offset", at, problem, value`

func scanLetter(rows pgx.Rows) (seckill.DeadLetter, error) {
	var l seckill.DeadLetter
	err := rows.Scan(&l.ID, (*string)(&l.Order), &l.Partition, &l.Offset, &l.At, &l.Problem, &l.Value)
	l.At = l.At.UTC()
	return l, err
}

// DeadLetters implements seckill.AdminStore.
func (s *Store) DeadLetters(ctx context.Context, after int64, limit int) ([]seckill.DeadLetter, error) {
	return list(ctx, s, "read dead letters", scanLetter,
		"SELECT "+letterColumns+" FROM dead_letters WHERE id > $1 ORDER BY id LIMIT $2", after, max(limit, 0))
}

// lettersOf returns the letters of a batch, and those of its promises that no letter of the batch
// is about: where a whole record is kept, one letter is enough.
func lettersOf(batch, promises []seckill.DeadLetter) []seckill.DeadLetter {
	if len(promises) == 0 {
		return batch
	}
	covered := make(map[seckill.OrderID]bool)
	for i := range batch {
		for _, id := range seckill.LetterOrders(&batch[i]) {
			covered[id] = true
		}
	}
	all := slices.Clone(batch)
	for i := range promises {
		if !covered[promises[i].Order] {
			all = append(all, promises[i])
		}
	}
	return all
}

// insertLetters queues dead letters; each is kept once. At is the database's. A problem is for
// people: what of it is no text is replaced, as the table would refuse it, and a letter must never
// be refused.
func insertLetters(tx *transaction, letters []seckill.DeadLetter) {
	if len(letters) == 0 {
		return
	}
	n := len(letters)
	orders, partitions, offsets := make([]string, n), make([]int32, n), make([]int64, n)
	problems, values := make([]string, n), make([][]byte, n)
	for i := range letters {
		l := &letters[i]
		orders[i], partitions[i], offsets[i] = string(l.Order), l.Partition, l.Offset
		problems[i], values[i] = clean(l.Problem), l.Value
		if values[i] == nil {
			values[i] = []byte{} // an empty record, not NULL
		}
	}
	tx.exec(`INSERT INTO dead_letters (order_id, "partition", "offset", at, problem, value)
		SELECT o, p, f, $4, t, v FROM unnest($1::text[], $2::int[], $3::bigint[], $5::text[], $6::bytea[]) AS l (o, p, f, t, v)
		ON CONFLICT DO NOTHING`, orders, partitions, offsets, tx.now, problems, values)
}

// lockLetters returns the letters of those ids, in order. Others that want them wait.
func (tx *transaction) lockLetters(ctx context.Context, ids []int64) ([]seckill.DeadLetter, error) {
	var out []seckill.DeadLetter
	tx.each(func(rows pgx.Rows) error {
		l, err := scanLetter(rows)
		out = append(out, l)
		return err
	}, "SELECT "+letterColumns+" FROM dead_letters WHERE id = ANY($1) ORDER BY id FOR UPDATE", ids)
	return out, tx.flush(ctx)
}

// dropLetters queues the deletion of letters, with a change record that keeps them.
func (tx *transaction) dropLetters(letters []seckill.DeadLetter, by seckill.Author) error {
	if len(letters) == 0 {
		return nil
	}
	ids := make([]int64, len(letters))
	for i := range letters {
		ids[i] = letters[i].ID
	}
	tx.exec("DELETE FROM dead_letters WHERE id = ANY($1)", ids)
	r, err := seckill.RecordDeadLetters(letters)
	if err != nil {
		return err
	}
	tx.record(by, r)
	return nil
}

// DiscardDeadLetters implements seckill.AdminStore. The change keeps the letters. No stock row is
// needed: parked units are counted beside them.
func (s *Store) DiscardDeadLetters(ctx context.Context, ids []int64, by seckill.Author) (int, error) {
	count := 0
	err := s.write(ctx, "discard dead letters", func(ctx context.Context, tx *transaction) error {
		letters, err := tx.lockLetters(ctx, ids)
		if err != nil {
			return err
		}
		count = len(letters)
		var about []seckill.OrderID
		for i := range letters {
			about = append(about, seckill.LetterOrders(&letters[i])...)
		}
		pl, err := s.placesOf(ctx, tx.pipe, about)
		if err != nil {
			return err
		}
		f := queueOrders(tx.pipe, awaitOrders, pl)
		tx.readClock()
		if err := tx.flush(ctx); err != nil {
			return err
		}
		changes := seckill.NewChanges()
		for _, id := range about {
			if o, ok := f.orders[id]; ok && o.State == seckill.OrderParked {
				f.orders[id] = seckill.DecideEvent(o, seckill.EventDiscarded, tx.now, changes).Order
			}
		}
		queueChanges(tx, f, f.stay, changes)
		return tx.dropLetters(letters, by)
	})
	if err != nil {
		return 0, err
	}
	return count, nil
}

// ReplayDeadLetters implements seckill.AdminStore.
func (s *Store) ReplayDeadLetters(ctx context.Context, ids []int64, by seckill.Author) ([]seckill.Acceptance, error) {
	var out []seckill.Acceptance
	err := s.write(ctx, "replay dead letters", func(ctx context.Context, tx *transaction) error {
		out = nil
		letters, err := tx.lockLetters(ctx, ids)
		if err != nil {
			return err
		}
		r, err := s.beginReplay(ctx, tx, letters)
		if err != nil {
			return err
		}
		var done []seckill.DeadLetter
		for i := range letters {
			got, finished := r.replay(&letters[i])
			out = append(out, got...)
			if finished {
				done = append(done, letters[i])
			}
		}
		r.changes.Letters = nil // they have letters: the ones that are replayed
		queueChanges(tx, r.found, r.in.weekOf(r.places), r.changes)
		return tx.dropLetters(done, by)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// replay is dead letters that are tried again.
type replay struct {
	*unparking
	pages map[int64]seckill.Page // of letters whose whole record can be read, by the letter's id
}

// beginReplay takes what decides about the orders of letters.
func (s *Store) beginReplay(ctx context.Context, tx *transaction, letters []seckill.DeadLetter) (*replay, error) {
	r := &replay{pages: make(map[int64]seckill.Page)}
	var ids []seckill.OrderID
	var pages []seckill.Page
	for i := range letters {
		l := &letters[i]
		if l.Order != "" {
			ids = append(ids, l.Order)
			continue
		}
		page, err := seckill.ParsePage(l.Value)
		if err != nil {
			continue
		}
		page = cleanPages([]seckill.Page{page})[0]
		r.pages[l.ID] = page
		pages = append(pages, page)
		for j := range page.Promises {
			ids = append(ids, page.Promises[j].Order)
		}
	}
	var err error
	r.unparking, err = s.lockParked(ctx, tx, awaitOrders, ids, pages)
	return r, err
}

// replay tries the orders of a letter again, and reports whether none of them is parked any more.
func (r *replay) replay(l *seckill.DeadLetter) (out []seckill.Acceptance, finished bool) {
	if l.Order != "" {
		if o, ok := r.orders[l.Order]; ok {
			out = append(out, r.unpark(&o, &o))
		}
	} else {
		page, readable := r.pages[l.ID]
		if !readable {
			return nil, false
		}
		for i := range page.Promises {
			out = append(out, r.promise(&page, &page.Promises[i])...)
		}
	}
	finished = true
	for i := range out {
		finished = finished && out[i].Order.State != seckill.OrderParked
	}
	return out, finished
}

// promise is a promise of a record that is read anew.
func (r *replay) promise(page *seckill.Page, p *seckill.Promise) []seckill.Acceptance {
	o, ok := r.orders[p.Order]
	if ok && o.State == seckill.OrderParked {
		read := seckill.ReadAnew(&o, page, p)
		return []seckill.Acceptance{r.unpark(&o, &read)}
	}
	single := seckill.Page{PageHeader: page.PageHeader, Promises: []seckill.Promise{*p}}
	return seckill.DecideAccept(&single, r.in.AcceptInput, r.changes)
}

// unpark tries a parked order again, as it reads now. Where its stock row is locked it stays as it
// is: it has a dead letter, so nobody but a replay tries it.
func (r *replay) unpark(o, read *seckill.Order) seckill.Acceptance {
	key := o.Stock()
	if o.State != seckill.OrderParked || r.in.Locked[key] {
		outcome := seckill.OutcomeExists
		if o.State == seckill.OrderParked {
			outcome = seckill.OutcomeParked
		}
		a := seckill.Acceptance{Outcome: outcome, Order: *o}
		a.Ref.Shard, a.Ref.Epoch = key.Shard, r.in.Epochs[key.Shard]
		return a
	}
	a := seckill.DecideUnpark(read, r.in.AcceptInput, r.changes)
	r.orders[o.ID] = a.Order
	return a
}
