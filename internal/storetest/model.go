package storetest

import "testing"

func exerciseModel(t *testing.T, open Open) {}
