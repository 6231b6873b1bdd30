package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/seckill"
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

// insertLetters queues dead letters; each is stored once. At comes from the database's clock. A
// problem is a text for people: invalid characters in it are replaced, because the table would
// refuse them, and a letter must never be refused.
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

// lockLetters locks and returns the letters with those ids, in order.
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
		letters, err := tx.lockLetters(ctx, ids)
		if err != nil {
			return err
		}
		r, err := s.beginReplay(ctx, tx, letters)
		if err != nil {
			return err
		}
		var done []seckill.DeadLetter
		out, done = seckill.DecideReplay(letters, r.pages, r.in.AcceptInput, r.changes)
		r.changes.Letters = nil // the orders have letters already: those that are replayed
		queueChanges(tx, r.found, r.in.weekOf(r.places), r.changes)
		return tx.dropLetters(done, by)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// replay is a replay of dead letters in progress.
type replay struct {
	*unparking
	pages map[int64]seckill.Page // of letters whose whole record can be read, by the letter's id
}

// beginReplay locks and reads what the decision about the letters' orders needs.
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
