package postgres_test

import (
	"testing"
	"time"

	"penstock/internal/postgres"
	"penstock/internal/proof/storetest"
	"penstock/seckill"
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
