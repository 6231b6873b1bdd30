package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"

	"github.com/penstock/penstock/seckill"
)

// Positions implements seckill.OrderStore; they come in the order of the partitions.
func (s *Store) Positions(ctx context.Context) ([]seckill.Position, error) {
	var out []seckill.Position
	err := s.read(ctx, "read the positions", func(q *statements) (err error) {
		out, err = readPositions(ctx, q)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func readPositions(ctx context.Context, q querier) ([]seckill.Position, error) {
	var out []seckill.Position
	rows, err := q.query(ctx, `SELECT "partition", topic, next, leader_epoch FROM positions ORDER BY "partition"`)
	err = each(rows, err, func(rows *sql.Rows) error {
		var p seckill.Position
		var topic []byte
		err := rows.Scan(&p.Partition, &topic, &p.Next, &p.LeaderEpoch)
		copy(p.Topic[:], topic) // a CHECK holds the length
		out = append(out, p)
		return err
	})
	return out, err
}

// AddPartitions implements seckill.OrderStore.
func (s *Store) AddPartitions(ctx context.Context, topic seckill.TopicID, n int32) error {
	what := fmt.Sprintf("add the topic's %d partitions", n)
	if n <= 0 {
		return fmt.Errorf("%s: there must be one", what)
	}
	return s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		known, err := readPositions(ctx, tx)
		if err != nil {
			return err
		}
		same := 0
		for i := range known {
			if known[i].Partition >= n {
				return fmt.Errorf("%w: the books know partition %d", seckill.ErrLayout, known[i].Partition)
			}
			if bytes.Equal(known[i].Topic[:], topic[:]) {
				same++
			}
		}
		if same == int(n) {
			return nil
		}
		for partition := range n {
			_, err := tx.exec(ctx, `INSERT INTO positions ("partition", topic, next, leader_epoch) VALUES (?, ?, 0, -1)
				ON CONFLICT ("partition") DO UPDATE SET topic = excluded.topic, next = 0, leader_epoch = -1
				WHERE topic <> excluded.topic`, partition, topic[:])
			if err != nil {
				return err
			}
		}
		return nil
	})
}
