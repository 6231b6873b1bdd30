package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/penstock/penstock/seckill"
)

// shardAudit is a shard's deep audit, as the admin API answers it.
type shardAudit struct {
	Shard      int            `json:"shard"`
	Shards     int            `json:"shards"`
	Items      int            `json:"items"`
	Orders     int64          `json:"orders"`
	Rebuilding bool           `json:"rebuilding"`
	Findings   []shardFinding `json:"findings"`
}

type shardFinding struct {
	Kind     string `json:"kind"`
	Activity string `json:"activity"`
	SKU      string `json:"sku"`
	Item     int64  `json:"item"`
	Detail   string `json:"detail"`
	Mended   string `json:"mended"`
}

// partitionState is a partition of the queue, as the admin API answers it.
type partitionState struct {
	Partition int    `json:"partition"`
	Next      int64  `json:"next"`
	Start     int64  `json:"start"`
	End       int64  `json:"end"`
	Behind    int64  `json:"behind"`
	State     string `json:"state"`
	Detail    string `json:"detail"`
}

// deepAudit audits every shard and the queue. With mend, it repairs the differences that are safe
// to repair.
func (s *session) deepAudit(mend bool) error {
	var shards []shardAudit
	var raw []json.RawMessage
	for n, all := 0, 1; n < all; n++ {
		request := get("shards", strconv.Itoa(n), "audit")
		if mend {
			request = post(nil, "shards", strconv.Itoa(n), "mend")
		}
		text, _, err := s.call(s.cmd.Context(), request)
		if err != nil {
			return err
		}
		var a shardAudit
		if err := json.Unmarshal(text, &a); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		all, shards, raw = a.Shards, append(shards, a), append(raw, text)
	}
	text, _, err := s.call(s.cmd.Context(), get("queue"))
	if err != nil {
		return err
	}
	var queue struct {
		Partitions []partitionState `json:"partitions"`
	}
	if err := json.Unmarshal(text, &queue); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if err := s.printDeep(shards, raw, text); err != nil {
		return err
	}
	if err := s.noteDeep(shards, queue.Partitions); err != nil {
		return err
	}
	found := slices.ContainsFunc(shards, func(a shardAudit) bool { return len(a.Findings) > 0 })
	if err := deepVerdict(shards, queue.Partitions); err != nil || found {
		return err
	}
	return s.note("no finding: orders, stock and counters agree")
}

// noteDeep prints how much was checked.
func (s *session) noteDeep(shards []shardAudit, partitions []partitionState) error {
	var items int
	var orders, behind int64
	for i := range shards {
		items, orders = items+shards[i].Items, orders+shards[i].Orders
	}
	for i := range partitions {
		behind += partitions[i].Behind
	}
	return s.note("%s with %s, and %s whose units count; %s of the queue, %s not read yet",
		seckill.Counted(len(shards), "shard"), seckill.Counted(items, "stock row"), seckill.Counted(orders, "order"),
		seckill.Counted(len(partitions), "partition"), seckill.Counted(behind, "record"))
}

func (s *session) printDeep(shards []shardAudit, raw []json.RawMessage, queue json.RawMessage) error {
	if s.json {
		return s.value(map[string]any{"shards": raw, "queue": queue})
	}
	lines := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintln(lines, "SHARD\tFINDING\tITEM\tDETAIL\tMENDED"); err != nil {
		return err
	}
	for i := range shards {
		for _, f := range shards[i].Findings {
			_, err := fmt.Fprintf(lines, "%d\t%s\t%s\t%s\t%s\n",
				shards[i].Shard, shown(f.Kind), shown(f.name()), shown(f.Detail), shown(f.Mended))
			if err != nil {
				return err
			}
		}
	}
	return lines.Flush()
}

// name returns the subject of a finding, for people.
func (f *shardFinding) name() string {
	switch {
	case f.Activity != "":
		return f.Activity + "/" + f.SKU
	case f.Item != 0:
		return strconv.FormatInt(f.Item, 10)
	}
	return "all"
}

// deepVerdict returns an error with the differences that were not repaired, and with the parts that
// couldn't be audited.
func deepVerdict(shards []shardAudit, partitions []partitionState) error {
	var broken, unknown []error
	for i := range shards {
		a := &shards[i]
		for _, f := range a.Findings {
			if f.Mended == "" {
				broken = append(broken, fmt.Errorf("shard %d, %s of %s: %s", a.Shard, f.Kind, f.name(), f.Detail))
			}
		}
		if a.Rebuilding {
			unknown = append(unknown, fmt.Errorf("shard %d is being rebuilt, so its stock was not compared: ask again later", a.Shard))
		}
	}
	for _, p := range partitions {
		switch p.State {
		case "lost":
			broken = append(broken, fmt.Errorf("partition %d: the workers are at %d, the log has %d to %d: it lost records",
				p.Partition, p.Next, p.Start, p.End))
		case "unknown":
			unknown = append(unknown, fmt.Errorf("partition %d can't be looked at: %s", p.Partition, p.Detail))
		}
	}
	return audited(broken, unknown)
}
