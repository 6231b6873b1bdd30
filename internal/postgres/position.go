package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/seckill"
)

// joinMoves joins the moves of each partition into one. Moves that don't follow each other are
// ErrMoved. The result is in the order of the partitions.
func joinMoves(moves []seckill.Move) ([]seckill.Move, error) {
	joined := make(map[int32]seckill.Move, len(moves))
	for _, m := range moves {
		if m.From.Topic != m.To.Topic || m.From.Partition != m.To.Partition {
			return nil, fmt.Errorf("a move from one partition to another: %+v", m)
		}
		if before, ok := joined[m.From.Partition]; ok {
			if before.To != m.From {
				return nil, fmt.Errorf("partition %d: %w: not every move follows the one before it", m.From.Partition, seckill.ErrMoved)
			}
			m.From = before.From
		}
		joined[m.From.Partition] = m
	}
	out := make([]seckill.Move, 0, len(joined))
	for _, partition := range inOrder(joined) {
		out = append(out, joined[partition])
	}
	return out, nil
}

// queueMoves queues the moves of the workers' positions, each under the condition that the position
// hasn't changed since the reading. moved becomes the number of moves that succeeded.
func queueMoves(p *pipe, moved *int64, moves []seckill.Move) {
	if len(moves) == 0 {
		return
	}
	n := len(moves)
	partitions, topics, from, to := make([]int32, n), make([][16]byte, n), make([]int64, n), make([]int64, n)
	fromEpochs, toEpochs := make([]int32, n), make([]int32, n)
	for i, m := range moves {
		partitions[i], topics[i], from[i], to[i] = m.From.Partition, m.From.Topic, m.From.Next, m.To.Next
		fromEpochs[i], toEpochs[i] = m.From.LeaderEpoch, m.To.LeaderEpoch
	}
	// The rows are first locked in order, because an UPDATE locks them in the order of its plan.
	p.count(moved, `WITH m AS MATERIALIZED (
			SELECT p."partition", m.next, m.leader_epoch
			FROM unnest($1::int[], $2::uuid[], $3::bigint[], $4::int[], $5::bigint[], $6::int[])
				AS m ("partition", topic, from_next, from_epoch, next, leader_epoch)
			JOIN positions AS p ON p."partition" = m."partition" AND p.topic = m.topic AND p.next = m.from_next
				AND p.leader_epoch = m.from_epoch
			ORDER BY p."partition" FOR NO KEY UPDATE OF p)
		UPDATE positions AS p SET next = m.next, leader_epoch = m.leader_epoch
		FROM m WHERE p."partition" = m."partition"`, partitions, topics, from, fromEpochs, to, toEpochs)
}

// Positions implements seckill.OrderStore.
func (s *Store) Positions(ctx context.Context) ([]seckill.Position, error) {
	return list(ctx, s, "read the positions", func(rows pgx.Rows) (p seckill.Position, err error) {
		err = rows.Scan(&p.Partition, (*[16]byte)(&p.Topic), &p.Next, &p.LeaderEpoch)
		return p, err
	}, `SELECT "partition", topic, next, leader_epoch FROM positions ORDER BY "partition"`)
}

// AddPartitions implements seckill.OrderStore.
func (s *Store) AddPartitions(ctx context.Context, topic seckill.TopicID, n int32) error {
	return s.write(ctx, "add partitions", func(ctx context.Context, tx *transaction) error {
		known := 0
		tx.each(func(rows pgx.Rows) error {
			known++
			return nil
		}, `SELECT FROM positions ORDER BY "partition" FOR NO KEY UPDATE`)
		if err := tx.flush(ctx); err != nil {
			return err
		}
		if known > int(n) {
			return fmt.Errorf("%w: the books know %d partitions, the topic has %d", seckill.ErrLayout, known, n)
		}
		tx.exec("UPDATE positions SET topic = $1, next = 0, leader_epoch = -1 WHERE topic <> $1", [16]byte(topic))
		tx.exec(`INSERT INTO positions ("partition", topic, next, leader_epoch)
			SELECT p, $1, 0, -1 FROM generate_series(0, $2::int - 1) AS p ON CONFLICT DO NOTHING`, [16]byte(topic), n)
		tx.exec("UPDATE kafka_cluster SET adopt = false WHERE adopt") // see ClaimKafka
		return nil
	})
}
