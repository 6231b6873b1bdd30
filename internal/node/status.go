package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/internal/settings"
)

// nodeStatus is a node's report about itself, for people. GET /admin/v1/nodes shows its JSON.
type nodeStatus struct {
	Role       string            `json:"role"`
	Version    string            `json:"version"`
	Started    time.Time         `json:"started"`
	Level      string            `json:"level"` // the level in force on this node
	Found      string            `json:"found"` // the level that its signals ask for
	Why        string            `json:"why"`   // the signals that ask for it
	InFlight   int64             `json:"in_flight"`
	Breakers   map[string]string `json:"breakers"`        // the states of breakers that aren't closed, by server and instance
	Partitions map[string]string `json:"partitions"`      // the states of partitions that aren't healthy, by number
	Owned      []int32           `json:"owned,omitempty"` // the partitions that this worker reads
	Lag        *int64            `json:"lag"`             // records that no worker has committed; null where it isn't known
	Catalog    settings.Version  `json:"catalog"`         // in force; its ID is the database's life
}

// status is this node's report about itself. It uses only memory.
func (n *Node) status() json.RawMessage {
	s := nodeStatus{
		Role: n.role.name(), Version: n.cfg.Version, Started: n.started, Breakers: n.breakers.disturbed(), Partitions: make(map[string]string),
		InFlight: n.control.switches.Stats().InFlight, Lag: n.observed.knownLag(),
	}
	if c := n.catalogNow(); c != nil {
		s.Catalog = settings.Version{Number: c.Version.Number, ID: c.Version.Incarnation}
	}
	level := n.control.switches.Level()
	s.Level, s.Found, s.Why = level.Level.String(), level.Found.Level.String(), level.Found.Why
	for _, p := range n.servers.queue.Partitions() {
		if p.Health != "well" {
			s.Partitions[strconv.Itoa(int(p.Partition))] = p.Health
		}
	}
	if n.role&RoleWorker != 0 {
		owned, _ := n.servers.queue.Owned()
		s.Owned = slices.Sorted(slices.Values(owned))
	}
	text, err := json.Marshal(&s)
	if err != nil {
		n.log.Error("status not written", "err", err)
		return nil
	}
	return text
}

// name is the role's name for people.
func (r Role) name() string {
	switch r {
	case RoleGateway:
		return "gateway"
	case RoleWorker:
		return "worker"
	}
	return "gateway and worker"
}

// disturbed returns the states of the breakers that aren't closed.
func (b *breakers) disturbed() map[string]string {
	out := make(map[string]string)
	add := func(name string, breaker *degrade.Breaker) {
		if state := breaker.State(); state != degrade.StateClosed {
			out[name] = state.String()
		}
	}
	add("kafka", b.kafka)
	add("database reads", b.reads.breaker)
	add("database writes", b.writes.breaker)
	for lane, g := range b.guards() {
		add(fmt.Sprint("redis ", lane), g.breaker)
	}
	return out
}

// knownLag is the lag at the last look; nil if it is unknown.
func (o *observations) knownLag() *int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.looked || o.lag < 0 {
		return nil
	}
	lag := o.lag
	return &lag
}
