package seckill

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/penstock/penstock/inventory"
)

func kept(t rapid.TB, c *Catalog, shards []ShardRow) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := WriteCatalog(&file, c, shards); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestReadCatalog_IsWhatWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, highest := time.Unix(1_800_000_000, 0).UTC(), inventory.ItemID(0)
		has := map[ActivityID]bool{}
		edit := (*Catalog)(nil).Edit(true, now)
		var changes []CatalogChange
		for range rapid.IntRange(0, 30).Draw(t, "changes") {
			change := drawChange(t, has, &highest)
			if a := change.Activity; a != nil {
				a.StartsAt, a.EndsAt = a.StartsAt.UTC(), a.EndsAt.UTC()
				a.PaymentWindow = time.Duration(rapid.Int64Range(0, 1<<50).Draw(t, "window"))
			}
			changes = append(changes, change)
			if err := edit.Apply(cloneChange(change)); err != nil {
				t.Fatal(err)
			}
		}
		version := CatalogVersion{rapid.String().Draw(t, "incarnation"), rapid.Int64Range(0, 1<<62).Draw(t, "version")}
		var shards []ShardRow
		for i := range rapid.IntRange(0, 20).Draw(t, "shards") {
			epoch := inventory.Epoch(rapid.Int64Range(0, 1<<50).Draw(t, "epoch"))
			shards = append(shards, ShardRow{inventory.Ref{Shard: inventory.ShardID(i), Epoch: epoch}, epoch + 1, epoch%2 == 0, epoch%3 == 0})
		}
		got, rows, err := ReadCatalog(bytes.NewReader(kept(t, edit.Done(version), shards)), now)
		if err != nil {
			t.Fatal(err)
		}
		new(plainCatalog).edit(true, now, changes).same(t, got, highest)
		if got.Version != version || !reflect.DeepEqual(rows, shards) {
			t.Fatalf("version %v, shards %v; want %v, %v", got.Version, rows, version, shards)
		}
	})
}

func TestReadCatalog_Empty(t *testing.T) {
	got, rows, err := ReadCatalog(bytes.NewReader(kept(t, (*Catalog)(nil).Edit(true, time.Now()).Done(CatalogVersion{}), nil)), time.Now())
	if err != nil || len(rows) > 0 || count(got.Sales()) > 0 {
		t.Errorf("%v, %v, %v", got, rows, err)
	}
}

// Every damage is detected: a changed byte, and a file that ends early.
func TestReadCatalog_Damaged(t *testing.T) {
	file := kept(t, bigCatalog(t, 3, 30, 5), []ShardRow{{NextEpoch: 7}})
	for i := range file {
		damaged := bytes.Clone(file)
		damaged[i] ^= 0x40
		if _, _, err := ReadCatalog(bytes.NewReader(damaged), time.Now()); !errors.Is(err, ErrCatalogFile) {
			t.Fatalf("byte %d of %d changed: %v", i, len(file), err)
		}
		if _, _, err := ReadCatalog(bytes.NewReader(file[:i]), time.Now()); !errors.Is(err, ErrCatalogFile) {
			t.Fatalf("cut at %d of %d: %v", i, len(file), err)
		}
	}
}

// The fuzzer writes the records of a block; the check around them is right.
func FuzzReadCatalog(f *testing.F) {
	f.Add(blockActivity, appendActivity(nil, bigActivity(1, 3)))
	f.Add(blockCallers, appendCaller(nil, bigCaller(1)))
	f.Add(blockMerchants, appendText(appendText(appendText(nil, "m"), "M"), "secret"))
	f.Add(blockShards, appendNumbers(nil, 3, 4, 5, 1))
	f.Add(blockHead, appendNumbers(nil, 0, 7))
	f.Fuzz(func(t *testing.T, kind byte, records []byte) {
		var file bytes.Buffer
		out := blockWriter{to: bufio.NewWriter(&file)}
		_, out.err = out.to.WriteString(catalogMagic)
		out.begin(kind)
		out.block = append(out.block, records...)
		out.begin(blockEnd)
		out.block = appendNumbers(out.block, 1)
		out.end()
		if err := errors.Join(out.err, out.to.Flush()); err != nil {
			t.Skip(err)
		}
		c, rows, err := ReadCatalog(&file, time.Now())
		if err != nil {
			return
		}
		if _, _, err := ReadCatalog(bytes.NewReader(kept(t, c, rows)), time.Now()); err != nil {
			t.Errorf("read, written and not read again: %v", err)
		}
	})
}

func TestReadCatalog_Fast(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	file := kept(t, bigCatalog(t, 500, 1_000_000, 100_000), nil)
	began := time.Now()
	if _, _, err := ReadCatalog(bytes.NewReader(file), time.Now()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MB in %v", len(file)>>20, time.Since(began))
}

func BenchmarkReadCatalog(b *testing.B) {
	file := kept(b, bigCatalog(b, 500, 1_000_000, 100_000), nil)
	for b.Loop() {
		if _, _, err := ReadCatalog(bytes.NewReader(file), time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteCatalog(b *testing.B) {
	c := bigCatalog(b, 500, 1_000_000, 100_000)
	for b.Loop() {
		if err := WriteCatalog(io.Discard, c, nil); err != nil {
			b.Fatal(err)
		}
	}
}
