package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"

	"github.com/penstock/penstock/seckill"
)

const letterColumns = `id, order_id, "partition", "offset", at, problem, value`

func scanLetter(rows *sql.Rows) (seckill.DeadLetter, error) {
	var l seckill.DeadLetter
	var at int64
	err := rows.Scan(&l.ID, &l.Order, &l.Partition, &l.Offset, &at, &l.Problem, &l.Value)
	l.At = fromMicros(at)
	return l, err
}

// DeadLetters implements seckill.AdminStore.
func (s *Store) DeadLetters(ctx context.Context, after int64, limit int) ([]seckill.DeadLetter, error) {
	var out []seckill.DeadLetter
	err := s.read(ctx, "read dead letters", func(q *statements) error {
		rows, err := q.query(ctx, "SELECT "+letterColumns+" FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?", after, max(limit, 0))
		return each(rows, err, func(rows *sql.Rows) error {
			l, err := scanLetter(rows)
			out = append(out, l)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// keepLetters stores dead letters, each once. At comes from the database's clock.
func (tx *transaction) keepLetters(ctx context.Context, letters []seckill.DeadLetter) error {
	const query = `INSERT INTO dead_letters (order_id, "partition", "offset", at, problem, value, digest)
		VALUES {(?,?,?,?,?,?,?)} ON CONFLICT DO NOTHING`
	return insert(ctx, tx.statements, query, letters, func(args []any, l *seckill.DeadLetter) []any {
		value := l.Value
		if value == nil {
			value = []byte{} // an empty record, not NULL
		}
		digest := sha256.Sum256(value)
		return append(args, string(l.Order), int64(l.Partition), l.Offset, tx.now.UnixMicro(), l.Problem, value, digest[:])
	})
}

// readLetters returns the letters of those ids, in order.
func (tx *transaction) readLetters(ctx context.Context, ids []int64) ([]seckill.DeadLetter, error) {
	var out []seckill.DeadLetter
	rows, err := tx.query(ctx, "SELECT "+letterColumns+` FROM dead_letters
		WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id`, list(ids))
	err = each(rows, err, func(rows *sql.Rows) error {
		l, err := scanLetter(rows)
		out = append(out, l)
		return err
	})
	return out, err
}

// dropLetters deletes letters, with a change record that keeps them.
func (tx *transaction) dropLetters(ctx context.Context, letters []seckill.DeadLetter, by seckill.Author) error {
	if len(letters) == 0 {
		return nil
	}
	ids := make([]int64, len(letters))
	for i := range letters {
		ids[i] = letters[i].ID
	}
	if _, err := tx.exec(ctx, "DELETE FROM dead_letters WHERE id IN (SELECT value FROM json_each(?))", list(ids)); err != nil {
		return err
	}
	record, err := seckill.RecordDeadLetters(letters)
	if err != nil {
		return err
	}
	return tx.record(ctx, by, record)
}

// DiscardDeadLetters implements seckill.AdminStore. The change keeps the letters.
func (s *Store) DiscardDeadLetters(ctx context.Context, ids []int64, by seckill.Author) (int, error) {
	count := 0
	err := s.write(ctx, "discard dead letters", func(ctx context.Context, tx *transaction) error {
		letters, err := tx.readLetters(ctx, ids)
		if err != nil {
			return err
		}
		count = len(letters)
		var about []seckill.OrderID
		for i := range letters {
			about = append(about, seckill.LetterOrders(&letters[i])...)
		}
		orders, err := findOrders(ctx, tx, about)
		if err != nil {
			return err
		}
		changes := seckill.NewChanges()
		for _, id := range about {
			if o, ok := orders[id]; ok && o.State == seckill.OrderParked {
				orders[id] = seckill.DecideEvent(o, seckill.EventDiscarded, tx.now, changes).Order
			}
		}
		if err := tx.writeChanges(ctx, changes); err != nil {
			return err
		}
		return tx.dropLetters(ctx, letters, by)
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
		letters, err := tx.readLetters(ctx, ids)
		if err != nil {
			return err
		}
		r, err := tx.beginReplay(ctx, letters)
		if err != nil {
			return err
		}
		var done []seckill.DeadLetter
		out, done = seckill.DecideReplay(letters, r.pages, r.in, r.changes)
		if err := tx.rewriteOrders(ctx, r.changes); err != nil {
			return err
		}
		return tx.dropLetters(ctx, done, by)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// replay is a replay of dead letters in progress.
type replay struct {
	in      *seckill.AcceptInput
	pages   map[int64]seckill.Page // of letters whose whole record can be read, by the letter's id
	changes *seckill.Changes
}

// beginReplay reads the data for the decision about the letters' orders.
func (tx *transaction) beginReplay(ctx context.Context, letters []seckill.DeadLetter) (*replay, error) {
	r := &replay{pages: make(map[int64]seckill.Page), changes: seckill.NewChanges()}
	var parked []seckill.OrderID
	var claims []claim
	for i := range letters {
		l := &letters[i]
		if l.Order != "" {
			parked = append(parked, l.Order)
			continue
		}
		if page, err := seckill.ParsePage(l.Value); err == nil {
			r.pages[l.ID] = page
			claims = append(claims, claimsOf([]seckill.Page{page})...)
		}
	}
	orders, err := findOrders(ctx, tx, parked)
	if err != nil {
		return nil, err
	}
	for _, id := range parked {
		if o, ok := orders[id]; ok {
			claims = append(claims, claimOf(&o))
		}
	}
	r.in, err = tx.readInput(ctx, claims)
	return r, err
}
