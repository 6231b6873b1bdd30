package postgres_test

import (
	"testing"
	"time"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/proof/storetest"
	"github.com/penstock/penstock/seckill"
)

func TestEvents(t *testing.T) {
	storetest.ExerciseEvents(t, func(t *testing.T, now func() time.Time) seckill.Store {
		return open(t, postgres.Config{Now: now, Events: true})
	})
}

func TestEvents_OffKeepsNothing(t *testing.T) {
	storetest.ExerciseNoEvents(t, func(t *testing.T, now func() time.Time) seckill.Store {
		return open(t, postgres.Config{Now: now})
	})
}
