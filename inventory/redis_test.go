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

	"github.com/penstock/penstock/internal/proof/stocktest"
	"github.com/penstock/penstock/inventory"
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

// keys reads the keys of a Redis without a Stock.
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

// do runs a command and fails if Redis refuses it.
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

// save reads all keys and returns what writes them back. DUMP would do, but miniredis has it for
// strings only.
func (k *keys) save() (restore func()) {
	var commands [][]string
	for _, key := range k.do("KEYS", "*") {
		read, write := []string{"HGETALL", key}, "HSET"
		if strings.HasSuffix(key, ":log") || strings.HasSuffix(key, ":young") {
			read, write = []string{"LRANGE", key, "0", "-1"}, "RPUSH"
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

// stored is the content of a shard's keys.
type stored struct {
	meta, units, totals, values map[string]string
	young, log                  []string
}

func (k *keys) read(shard inventory.ShardID) stored {
	tag := fmt.Sprintf("ps:{ps.%d}:", shard)
	s := stored{
		make(map[string]string), make(map[string]string), pairs(k.do("HGETALL", tag+"totals")), make(map[string]string),
		k.do("LRANGE", tag+"young", "0", "-1"), k.do("LRANGE", tag+"log", "0", "-1"),
	}
	for field, value := range pairs(k.do("HGETALL", tag+"shard")) {
		switch _, err := strconv.ParseUint(field, 10, 32); {
		case err == nil:
			s.units[field] = value
		case len(field) < 11:
			s.meta[field] = value
		default:
			s.values[field] = value
		}
	}
	return s
}

// check reports where a shard's keys break the invariants at the top of lua/shard.lua. The total of
// an item is checked only if it once was right, because the suite loads numbers that don't add up.
func (k *keys) check(shard inventory.ShardID) error {
	s := k.read(shard)
	if len(s.meta) == 0 {
		return nil
	}
	var ordered, sold inventory.Digest
	undecided, named, fresh := map[string]bool{}, map[uint64]bool{}, 0
	for head, value := range s.values {
		named[inventory.HashName(head)] = true
		entries, touches, err := inventory.ParseValue(head, value)
		if err != nil {
			return err
		}
		for i, e := range entries {
			if seq, err := strconv.ParseUint(s.meta["seq"], 10, 64); err != nil || touches[i] > seq {
				return fmt.Errorf("%+v was touched at %d, seq is %d", e, touches[i], seq)
			}
			switch {
			case e.State == inventory.Fresh || e.State == inventory.Doomed:
				undecided[head] = true
				fresh += e.Quantity
			case e.Buyer == "":
			case e.State == inventory.Ordered:
				ordered = ordered.Add(inventory.NameDigest(e.ID))
			case e.State == inventory.Sold:
				sold = sold.Add(inventory.NameDigest(e.ID))
			}
		}
	}
	want := map[string]string{
		"fresh": strconv.Itoa(fresh), "names": strconv.Itoa(len(s.values)), "items": strconv.Itoa(len(s.units)),
		"ordered": strconv.FormatUint(uint64(ordered), 10), "sold": strconv.FormatUint(uint64(sold), 10),
	}
	for field, value := range want {
		if s.meta[field] != value {
			return fmt.Errorf("meta is %v; %s should be %s", s.meta, field, value)
		}
	}
	if err := s.checkYoung(undecided); err != nil {
		return err
	}
	return s.checkLog(named)
}

// checkYoung reports an undecided head that young doesn't have.
func (s *stored) checkYoung(undecided map[string]bool) error {
	for _, element := range s.young {
		for element != "" {
			size := int(element[0])
			delete(undecided, element[1:1+size])
			element = element[1+size:]
		}
	}
	if len(undecided) > 0 {
		return fmt.Errorf("young is %q; %v are missing", s.young, undecided)
	}
	return nil
}

// checkLog reports what is missing in the log: a head, or whether an item has units.
func (s *stored) checkLog(named map[uint64]bool) error {
	out := map[string]bool{}
	for _, element := range s.log {
		switch element[0] {
		case 'N':
			for hash := range slices.Chunk([]byte(element[1:]), 8) {
				delete(named, binary.BigEndian.Uint64(hash))
			}
		case 'C':
			for _, item := range strings.Fields(element)[1:] {
				out[item[:len(item)-1]] = item[len(item)-1] == '-'
			}
		}
	}
	if len(named) > 0 {
		return fmt.Errorf("the log is %q; it doesn't have %v", s.log, named)
	}
	for item, available := range s.units {
		if n, err := strconv.Atoi(available); err != nil || out[item] != (n <= 0) {
			return fmt.Errorf("item %s has %q, the log says out %v", item, available, out[item])
		}
		delete(out, item)
	}
	for item, is := range out {
		if is {
			return fmt.Errorf("item %s is out in the log, and not there", item)
		}
	}
	if !maps.EqualFunc(s.units, s.totals, func(_, _ string) bool { return true }) {
		return fmt.Errorf("units of %v, totals of %v", s.units, s.totals)
	}
	return nil
}

// pairs makes a map of an answer to HGETALL.
func pairs(values []string) map[string]string {
	m := make(map[string]string, len(values)/2)
	for pair := range slices.Chunk(values, 2) {
		m[pair[0]] = pair[1]
	}
	return m
}
