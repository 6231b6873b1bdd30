package inventory_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"

	"penstock/internal/proof/stocktest"
	"penstock/inventory"
)

func TestMiniredis(t *testing.T) {
	stocktest.Exercise(t, func(t *testing.T, processes int) stocktest.World {
		return redisWorld(t, miniredis.RunT(t).Addr(), processes)
	})
}

// TestRedis runs the suite on a real Redis, which it empties again and again.
//
//	redis-server --port 7379 --save "" --daemonize no &
//	INVENTORY_REDIS=127.0.0.1:7379 go test ./inventory -run TestRedis
func TestRedis(t *testing.T) {
	addr := os.Getenv("INVENTORY_REDIS")
	if addr == "" {
		t.Skip("INVENTORY_REDIS names no Redis")
	}
	stocktest.Exercise(t, func(t *testing.T, processes int) stocktest.World { return redisWorld(t, addr, processes) })
}

// openStock connects to a Redis and stops when the test ends.
func openStock(t testing.TB, cfg inventory.Config) *inventory.Stock {
	t.Helper()
	s, err := inventory.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// redisWorld is a world on the Redis at addr, which must be used by nobody else.
func redisWorld(t *testing.T, addr string, processes int) stocktest.World {
	t.Helper()
	redis := newKeys(t, addr)
	redis.do("FLUSHALL")
	w := stocktest.World{Lose: func() { redis.do("FLUSHALL") }, Save: redis.save, Check: redis.check}
	for range processes {
		w.Stocks = append(w.Stocks, openStock(t, inventory.Config{Addrs: []string{addr}, CallTimeout: time.Minute})) // Lua in Go, raced
	}
	return w
}

// keys looks at what is in a Redis behind a Stock's back.
type keys struct {
	testing.TB
	addr   string
	client rueidis.Client
}

func newKeys(t testing.TB, addr string) *keys {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, AlwaysRESP2: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &keys{t, addr, client}
}

// do makes a command and fails where Redis refuses it.
func (k *keys) do(command ...string) []string {
	k.Helper()
	r := k.client.Do(context.Background(), k.client.B().Arbitrary(command...).Build()) // also in a cleanup
	if err := r.Error(); err != nil {
		k.Fatalf("%v: %v", command, err)
	}
	if values, err := r.AsStrSlice(); err == nil {
		return values
	}
	return nil
}

// save reads all keys and returns what writes them back. DUMP would do, but miniredis has it for strings only.
func (k *keys) save() (restore func()) {
	var commands [][]string
	for _, key := range k.do("KEYS", "*") {
		read, write := []string{"HGETALL", key}, "HSET"
		switch {
		case strings.HasSuffix(key, ":log"):
			read, write = []string{"LRANGE", key, "0", "-1"}, "RPUSH"
		case strings.HasSuffix(key, ":young"), strings.HasSuffix(key, ":old"):
			read, write = []string{"SMEMBERS", key}, "SADD"
		}
		for values := range slices.Chunk(k.do(read...), 1000) {
			commands = append(commands, append([]string{write, key}, values...))
		}
	}
	return func() {
		k.do("FLUSHALL")
		for _, command := range commands {
			k.do(command...)
		}
	}
}

// check reports where an item's keys break the invariants on top of lua/shard.lua.
func (k *keys) check(item inventory.ItemID) error {
	tag := fmt.Sprintf("ps:{%d.0}:", item)
	meta, holds := pairs(k.do("HGETALL", tag+"meta")), pairs(k.do("HGETALL", tag+"holds"))
	buyers, unfinished, fresh := map[string]string{}, map[string]bool{}, 0
	units := map[string]int{}
	for id, value := range holds {
		fields := strings.SplitN(value[1:], " ", 3)
		quantity, err := strconv.Atoi(fields[0])
		if err != nil {
			return err
		}
		switch value[0] {
		case 'F', 'D':
			unfinished[id] = true
			fresh += quantity
		}
		if buyer := fields[2]; buyer != "" && value[0] != 'V' {
			units[buyer] += quantity
			buyers[buyer] = strconv.Itoa(units[buyer])
		}
	}
	indexed := map[string]bool{}
	members := append(k.do("SMEMBERS", tag+"young"), k.do("SMEMBERS", tag+"old")...)
	for _, id := range members {
		indexed[id] = true
	}
	log, named := map[uint64]bool{}, map[uint64]bool{}
	entries := k.do("LRANGE", tag+"log", "0", "-1")
	for _, entry := range entries {
		log[binary.BigEndian.Uint64([]byte(entry))] = true
	}
	for id := range holds {
		named[inventory.HashName(id)] = true
	}
	known := strconv.Itoa(len(holds))
	switch got := pairs(k.do("HGETALL", tag+"buyers")); {
	case !maps.Equal(got, buyers):
		return fmt.Errorf("buyers are %v, the holds say %v", got, buyers)
	case !maps.Equal(indexed, unfinished) || len(members) != len(indexed):
		return fmt.Errorf("young and old are %v, the holds say %v", members, unfinished)
	case !maps.Equal(log, named) || len(entries) != len(holds):
		return fmt.Errorf("the log has %d entries and %d hashes, there are %d holds", len(entries), len(log), len(holds))
	case meta["known"] != known && len(meta) > 0 || meta["fresh"] != strconv.Itoa(fresh) && len(meta) > 0:
		return fmt.Errorf("meta is %v; %s known, %d fresh", meta, known, fresh)
	}
	return nil
}

// pairs makes a map of what HGETALL answers.
func pairs(values []string) map[string]string {
	m := make(map[string]string, len(values)/2)
	for pair := range slices.Chunk(values, 2) {
		m[pair[0]] = pair[1]
	}
	return m
}

func ref(item inventory.ItemID, epoch inventory.Epoch) inventory.Ref {
	return inventory.Ref{Item: item, Epoch: epoch}
}

func hold(id, buyer string, quantity int) inventory.Hold {
	return inventory.Hold{ID: id, Buyer: buyer, Quantity: quantity}
}
