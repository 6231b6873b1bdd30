package inventory_test

import (
	"context"
	"os"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"

	"penstock/inventory"
	"penstock/inventory/stocktest"
)

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
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, AlwaysRESP2: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	do := func(command ...string) rueidis.RedisResult {
		t.Helper()
		r := client.Do(context.Background(), client.B().Arbitrary(command...).Build()) // also in a cleanup
		if err := r.Error(); err != nil {
			t.Fatalf("%v: %v", command, err)
		}
		return r
	}
	lose := func() { do("FLUSHALL") }
	lose()
	w := stocktest.World{Lose: lose, Save: func() func() { return saveKeys(t, do) }}
	for range processes {
		w.Stocks = append(w.Stocks, openStock(t, inventory.Config{Addrs: []string{addr}}))
	}
	return w
}

// saveKeys reads all keys and returns what writes them back. DUMP would do, but miniredis has it for strings only.
func saveKeys(t *testing.T, do func(...string) rueidis.RedisResult) (restore func()) {
	t.Helper()
	read := map[string][]string{"hash": {"HGETALL"}, "list": {"LRANGE", "0", "-1"}, "set": {"SMEMBERS"}}
	write := map[string]string{"hash": "HSET", "list": "RPUSH", "set": "SADD"}
	var commands [][]string
	keys, err := do("KEYS", "*").AsStrSlice()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		kind, err := do("TYPE", key).ToString()
		if err != nil || read[kind] == nil {
			t.Fatalf("key %q is a %q: %v", key, kind, err)
		}
		values, err := do(append([]string{read[kind][0], key}, read[kind][1:]...)...).AsStrSlice()
		if err != nil {
			t.Fatal(err)
		}
		for len(values) > 0 {
			n := min(1000, len(values))
			commands = append(commands, append([]string{write[kind], key}, values[:n]...))
			values = values[n:]
		}
	}
	return func() {
		do("FLUSHALL")
		for _, command := range commands {
			do(command...)
		}
	}
}

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

func ref(item inventory.ItemID, epoch inventory.Epoch) inventory.Ref {
	return inventory.Ref{Item: item, Epoch: epoch}
}

func hold(id, buyer string, quantity int) inventory.Hold {
	return inventory.Hold{ID: id, Buyer: buyer, Quantity: quantity}
}
