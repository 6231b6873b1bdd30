package seckill

import (
	"fmt"
	"slices"
	"testing"

	"github.com/penstock/penstock/inventory"
)

// The shop's own holds on an item use a few heads, which can be computed without their keys.
// decide_test.go and page_test.go prove the content of an order's id.
func TestWithdrawalHeads(t *testing.T) {
	heads := WithdrawalHeads(7, 3)
	met := make(map[string]bool)
	for i := range 1000 {
		id := NewWithdrawalID(7, 3, fmt.Sprint("move ", i))
		if !IsWithdrawal(id) || !slices.Contains(heads, inventory.Head(id)) {
			t.Fatalf("%s has another head than %q", id, heads)
		}
		met[inventory.Head(id)] = true
	}
	if len(met) < len(heads)/2 {
		t.Errorf("%d of %d heads are used", len(met), len(heads))
	}
	if other := NewWithdrawalID(7, 4, "move 1"); slices.Contains(heads, inventory.Head(other)) {
		t.Error("two shards share a head")
	}
}
