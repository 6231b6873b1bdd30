package node

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// keptCatalog has a merchant with a secret, and a sale.
func keptCatalog(t testing.TB) *seckill.Catalog {
	t.Helper()
	edit := (*seckill.Catalog)(nil).Edit(true, time.Now())
	caller := &seckill.Caller{CallerRef: seckill.CallerRef{Merchant: "m", Caller: "web"}, Rights: seckill.RightBuy,
		Keys: []seckill.CallerKey{{ID: "k", Prefix: "psk_x", Hash: keyHash}}}
	for _, change := range []seckill.CatalogChange{
		{Merchant: &seckill.Merchant{ID: "m", Name: "M", PaymentSecret: "hush"}}, {Caller: caller},
		{Activity: &seckill.Activity{
			ID: "a", Merchant: "m", Name: "A", State: seckill.ActivityPublished,
			StartsAt: time.Now().Add(-time.Hour).UTC(), EndsAt: time.Now().Add(time.Hour).UTC(), PaymentWindow: time.Minute,
			Items: []seckill.Item{{ID: 7, SKU: "x", Price: seckill.Money{Minor: 5, Currency: "CNY"}, Quantity: 3, Spread: 1}},
		}},
	} {
		if err := edit.Apply(change); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Done(seckill.CatalogVersion{Incarnation: "one", Number: 3})
}

func keptRows(shards int) (rows []seckill.ShardRow) {
	for i := range shards {
		rows = append(rows, seckill.ShardRow{Ref: inventory.Ref{Shard: inventory.ShardID(i), Epoch: 5}, NextEpoch: 5})
	}
	return rows
}

func TestKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), keptFile)
	k := keptNode{keptCatalog(t), keptRows(16), 8}
	if err := writeKept(path, &k); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has secrets, and its mode is %v (%v)", info.Mode(), err)
	}
	if left, err := filepath.Glob(path + ".*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	got, err := readKept(path, 16)
	if err != nil {
		t.Fatal(err)
	}
	if got.partitions != 8 || len(got.rows) != 16 || got.rows[3] != k.rows[3] || got.catalog.Version != k.catalog.Version {
		t.Errorf("got %+v", got)
	}
	if offer, ok := got.catalog.Offer(7); !ok || offer.SKU != "x" || got.catalog.Merchant("m").PaymentSecret != "hush" {
		t.Error("the catalog is another one")
	}
	if _, err := readKept(path, 4); !errors.Is(err, seckill.ErrCatalogFile) {
		t.Errorf("of another installation: %v", err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{{}, file[:len(file)/2], bytes.Replace(file, []byte("hush"), []byte("HUSH"), 1)} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readKept(path, 16); !errors.Is(err, seckill.ErrCatalogFile) {
			t.Errorf("%d bytes, damaged: %v", len(damaged), err)
		}
	}
}
