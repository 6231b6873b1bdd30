package postgres_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/penstock/penstock/internal/postgres"
)

func TestFaultOf(t *testing.T) {
	for code, want := range map[string]postgres.Fault{
		"22021": postgres.FaultData,      // bytes that are no UTF-8
		"22003": postgres.FaultData,      // a number out of range
		"23502": postgres.FaultData,      // NULL
		"23505": postgres.FaultAgain,     // another transaction was quicker
		"23503": postgres.FaultWait,      // a restored database
		"23514": postgres.FaultInvariant, // L1
		"40P01": postgres.FaultAgain,
		"25006": postgres.FaultAgain,
		"08006": postgres.FaultWait,
		"42501": postgres.FaultWait,
		"42P01": postgres.FaultWait,
		"53100": postgres.FaultWait,
		"53200": postgres.FaultWait,
		"55P03": postgres.FaultWait,
		"57P01": postgres.FaultWait,
		"57014": postgres.FaultWait,
		"XX001": postgres.FaultWait,
		"":      postgres.FaultWait,
	} {
		err := fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code})
		if got := postgres.FaultOf(err); got != want {
			t.Errorf("%s: %v, want %v", code, got, want)
		}
	}
	if got := postgres.FaultOf(nil); got != postgres.FaultNone {
		t.Errorf("no error: %v", got)
	}
	if got := postgres.FaultOf(errors.New("anything")); got != postgres.FaultWait {
		t.Errorf("anything: %v", got)
	}
	changed := &pgconn.PgError{Code: "0A000", Message: "cached plan must not change result type"}
	if got := postgres.FaultOf(changed); got != postgres.FaultAgain {
		t.Errorf("a plan of an older schema: %v", got)
	}
}
