package faults

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/servers"
)

// redisKinds harm a single Redis. It has all items of the sale: no purchase succeeds while it is
// away.
func redisKinds() []*kind {
	away := []string{purchases}
	set := func(name, bad, good string) func(*fault) {
		return func(f *fault) {
			redis := f.s.redis[0]
			f.during(6*time.Second, func() { redisDo(f, redis, "CONFIG", "SET", name, bad) }, func() { redisDo(f, redis, "CONFIG", "SET", name, good) })
		}
	}
	all := []*kind{
		{name: "redis-kill", what: "kill -9 of Redis, started again after 3 s", on: "single", may: away, excuse: excuse{lostStock: true},
			harm: func(f *fault) { f.during(3*time.Second, f.s.redis[0].Kill, f.s.redis[0].Start) }},
		{name: "redis-stop", what: "SIGSTOP of Redis for 8 s", on: "single", may: away,
			harm: func(f *fault) { f.during(8*time.Second, f.s.redis[0].Pause, f.s.redis[0].Resume) }},
		{name: "redis-flush", what: "FLUSHALL", on: "single", may: away,
			harm: func(f *fault) { f.during(0, func() { redisDo(f, f.s.redis[0], "FLUSHALL") }, func() {}) }},
		{name: "redis-full", what: "Redis is above its maxmemory for 6 s: OOM", on: "single", may: away, harm: set("maxmemory", "1", "0")},
		{name: "redis-noreplicas", what: "Redis wants a replica that isn't there for 6 s: NOREPLICAS", on: "single", may: away,
			harm: set("min-replicas-to-write", "1", "0")},
		{name: "redis-busy", what: "a stranger's script runs for 8 s: first nothing is answered, then BUSY", on: "single", may: away,
			harm: func(f *fault) {
				redis := f.s.redis[0]
				ended := make(chan error, 1)
				f.during(8*time.Second, func() {
					go func() {
						_, err := redisTry(f.Context(), redis, "EVAL", "while true do end", "0")
						ended <- err
					}()
				}, func() { redisDo(f, redis, "SCRIPT", "KILL") })
				<-ended
			}},
	}
	return append(all, proxied("redis", func(s *site) *proxy { return s.toRedis }, 250*time.Millisecond, purchases)...)
}

// replicaKinds harm a Redis with a replica and a Sentinel. Without a replica it takes no writes.
func replicaKinds() []*kind {
	away := []string{purchases}
	return []*kind{
		{name: "redis-failover", what: "the replica lags by a second when the primary is killed, and is promoted; the other one is back after 8 s",
			on: "replicated", may: away, excuse: excuse{lostStock: true}, harm: func(f *fault) {
				primary, replica := roles(f, f.s)
				replica.Pause()
				pause(f, time.Second)
				f.during(8*time.Second, func() {
					primary.Kill()
					replica.Resume()
				}, primary.Start)
			}},
		{name: "redis-failover-stopped", what: "the primary is stopped for 8 s; the replica is promoted meanwhile", on: "replicated", may: away,
			excuse: excuse{lostStock: true}, harm: func(f *fault) {
				primary, _ := roles(f, f.s)
				f.during(8*time.Second, primary.Pause, primary.Resume)
			}},
	}
}

// roles waits for a primary that has its replica.
func roles(t testing.TB, s *site) (primary, replica *servers.Server) {
	t.Helper()
	eventually(t, "there is a primary with its replica", func() bool {
		for i, r := range s.redis {
			other := s.redis[1-i]
			if field(t, r, "role", "INFO", "replication") == "slave" && field(t, r, "master_link_status", "INFO", "replication") == "up" &&
				field(t, other, "role", "INFO", "replication") == "master" {
				primary, replica = other, r
				return true
			}
		}
		return false
	})
	return primary, replica
}

// clusterKinds harm a Redis Cluster of three primaries.
func clusterKinds() []*kind {
	return []*kind{
		{name: "redis-node-out", what: "one of three nodes of a Redis Cluster is killed, and back after 8 s", on: "cluster",
			excuse: excuse{lostStock: true}, harm: func(f *fault) { f.during(8*time.Second, f.s.redis[1].Kill, f.s.redis[1].Start) }},
		{name: "redis-slot-moves", what: "the slot of a shard that sells moves to another node, half of its keys for 4 s", on: "cluster",
			harm: moveSlot},
	}
}

// shardKeys returns the names of a shard's keys, as in inventory/lua/shard.lua.
var shardKeys = []string{"totals", "restocks", "shard", "young", "log"}

// moveSlot moves the shard of the item that most buyers want.
func moveSlot(f *fault) {
	shard := f.crowd.sale.items[0].shard
	tag := fmt.Sprintf("ps.%d", shard)
	slot := int(crc16(tag)) % slots
	from := slices.IndexFunc([]int{1, 2, 3}, func(i int) bool { return slot < slots*i/3 })
	source, target := f.s.redis[from], f.s.redis[(from+1)%3]
	sourceID, targetID, number := redisDo(f, source, "CLUSTER", "MYID"), redisDo(f, target, "CLUSTER", "MYID"), strconv.Itoa(slot)
	host, port, err := net.SplitHostPort(target.Addr)
	no(f, target.Addr, err)
	migrate := func(names []string) {
		command := []string{"MIGRATE", host, port, "", "0", "5000", "KEYS"}
		for _, name := range names {
			command = append(command, "ps:{"+tag+"}:"+name)
		}
		redisDo(f, source, command...)
	}
	f.during(4*time.Second, func() {
		redisDo(f, target, "CLUSTER", "SETSLOT", number, "IMPORTING", sourceID)
		redisDo(f, source, "CLUSTER", "SETSLOT", number, "MIGRATING", targetID)
		migrate(shardKeys[:2])
	}, func() {
		migrate(shardKeys[2:])
		for _, n := range []*servers.Server{target, source, f.s.redis[(from+2)%3]} {
			redisDo(f, n, "CLUSTER", "SETSLOT", number, "NODE", targetID)
		}
	})
}

// crc16 is the hash by which a Redis Cluster gives slots to keys (XMODEM).
func crc16(text string) (crc uint16) {
	for _, b := range []byte(text) {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}
