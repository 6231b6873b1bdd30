package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/seckill"
)

// Lineage returns a name that identifies this database. A copy of a database has the same one.
func (s *Store) Lineage(ctx context.Context) (lineage string, err error) {
	err = s.read(ctx, "read the lineage", func(ctx context.Context, p *pipe) error {
		_, err := p.one(ctx, "SELECT lineage FROM installation", nil, &lineage)
		return err
	})
	return lineage, err
}

// ClaimKafka returns seckill.ErrForeign if the database belongs to another Kafka cluster than the
// one with this id. If the database is not bound to a cluster, a worker's claim binds it. adopt
// means that the owner has unbound it (ForgetKafka), and that no worker has registered a topic
// since (AddPartitions): then the existing topic belongs to it.
func (s *Store) ClaimKafka(ctx context.Context, cluster string, worker bool) (adopt bool, err error) {
	bound := ""
	err = s.write(ctx, "claim the Kafka cluster", func(ctx context.Context, tx *transaction) error {
		bound, adopt = "", false
		if worker {
			tx.exec("UPDATE kafka_cluster SET id = $1 WHERE id = ''", cluster)
			tx.exec("INSERT INTO kafka_cluster (id) VALUES ($1) ON CONFLICT DO NOTHING", cluster)
		}
		_, err := tx.one(ctx, "SELECT id, adopt FROM kafka_cluster", nil, &bound, &adopt)
		return err
	})
	if err == nil && bound != "" && bound != cluster {
		return false, fmt.Errorf("%w: the database's promises are in the Kafka cluster %q, this is %q", seckill.ErrForeign, bound, cluster)
	}
	return adopt && err == nil, err
}

// ForgetKafka unbinds the database at url from its Kafka cluster, and returns the cluster's id, ""
// if there was none. The next worker binds it again, and accepts the topic as it is.
func ForgetKafka(ctx context.Context, url string) (cluster string, err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return "", err
	}
	prepare(config)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return "", describe("forget the Kafka cluster", oneLine(err))
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	err = conn.QueryRow(ctx, `WITH before AS (SELECT id FROM kafka_cluster)
		INSERT INTO kafka_cluster (id, adopt) VALUES ('', true) ON CONFLICT (one) DO UPDATE SET id = '', adopt = true
		RETURNING coalesce((SELECT id FROM before), '')`).Scan(&cluster)
	return cluster, describe("forget the Kafka cluster", err)
}
