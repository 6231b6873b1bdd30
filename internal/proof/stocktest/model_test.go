package stocktest_test

import (
	"testing"

	"github.com/penstock/penstock/internal/proof/stocktest"
)

func TestModel(t *testing.T) { stocktest.Exercise(t, stocktest.OpenModels) }
