package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/seckill"
)

// TestClaimKafka: the first worker binds the database to its cluster, gateways bind nothing, and
// any other cluster is refused until the owner has it forgotten.
func TestClaimKafka(t *testing.T) {
	url := database(t)
	store := open(t, postgres.Config{URL: as(app, url), KeepSchema: true})
	claim := func(cluster string, worker bool) error {
		adopt, err := store.ClaimKafka(t.Context(), cluster, worker)
		if adopt {
			t.Errorf("%s is adopted, and nobody has asked for that", cluster)
		}
		return err
	}
	must(t, claim("ours", false))
	must(t, claim("theirs", false)) // nobody has bound it yet
	must(t, claim("ours", true))
	must(t, claim("ours", true))
	must(t, claim("ours", false))
	for _, worker := range []bool{true, false} {
		err := claim("theirs", worker)
		if !errors.Is(err, seckill.ErrForeign) || !strings.Contains(err.Error(), `"ours"`) || !strings.Contains(err.Error(), `"theirs"`) {
			t.Errorf("another cluster: %v", err)
		}
	}
	for _, want := range []string{"ours", ""} {
		if got, err := postgres.ForgetKafka(t.Context(), url); err != nil || got != want {
			t.Errorf("forget: %q, %v", got, err)
		}
	}
	// Adopted until a worker has registered the topic: the one that bound it may stop before, and
	// others may come meanwhile.
	for _, worker := range []bool{false, true, true, false} {
		if adopt, err := store.ClaimKafka(t.Context(), "theirs", worker); err != nil || !adopt {
			t.Errorf("after it was forgotten: %t, %v", adopt, err)
		}
	}
	must(t, store.AddPartitions(t.Context(), seckill.TopicID{1}, 3))
	must(t, claim("theirs", true))
	if err := claim("ours", true); !errors.Is(err, seckill.ErrForeign) {
		t.Errorf("the one of before: %v", err)
	}
}

func TestLineage_IsTheDatabases(t *testing.T) {
	one, two := open(t, postgres.Config{URL: servers.Postgres(t)}), open(t, postgres.Config{URL: servers.Postgres(t)})
	a, err := one.Lineage(t.Context())
	must(t, err)
	b, err := two.Lineage(t.Context())
	must(t, err)
	again, err := one.Lineage(t.Context())
	must(t, err)
	if a == "" || a == b || a != again {
		t.Errorf("%q, %q, %q", a, b, again)
	}
}
