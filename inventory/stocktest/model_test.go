package stocktest_test

import (
	"testing"

	"penstock/inventory/stocktest"
)

func TestModel(t *testing.T) { stocktest.Exercise(t, stocktest.OpenModels) }
