package admin

import (
	"errors"
	"math"
	"net/http"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
	"github.com/penstock/penstock/seckill/desk"
)

type shardAuditDoc struct {
	Shard  int   `json:"shard"`
	Shards int   `json:"shards"` // of the whole installation
	Epoch  int64 `json:"epoch"`
	Items  int   `json:"items"`
	Orders int64 `json:"orders"` // the orders whose units count
	// Rebuilding means that the shard is being rebuilt, so its stock was not compared.
	Rebuilding bool         `json:"rebuilding"`
	Findings   []findingDoc `json:"findings"`
}

type findingDoc struct {
	Kind     desk.FindingKind   `json:"kind"`
	Activity seckill.ActivityID `json:"activity,omitempty"`
	SKU      seckill.SKU        `json:"sku,omitempty"`
	Item     uint32             `json:"item,omitempty"`
	Detail   string             `json:"detail"`
	Mended   string             `json:"mended,omitempty"`
}

// auditShard answers GET /admin/v1/shards/{shard}/audit.
func (c *call) auditShard() error { return c.deepAudit(false, "") }

// mendShard answers POST /admin/v1/shards/{shard}/mend.
func (c *call) mendShard() error {
	reason, err := c.onlyReason()
	if err != nil {
		return err
	}
	return c.deepAudit(true, reason)
}

func (c *call) deepAudit(mend bool, reason string) error {
	number, ok := c.pathNumber("shard", 0)
	if !ok || number > math.MaxUint16 {
		return refuse(problem.NotFound, "There is no shard with this number.")
	}
	a, err := c.server.deps.Office.AuditShard(c.context(), int(number), mend, c.author(reason))
	if errors.Is(err, seckill.ErrNotFound) {
		return refuse(problem.NotFound, "There is no shard with this number.")
	}
	if err != nil {
		return err
	}
	doc := shardAuditDoc{
		Shard: int(a.Ref.Shard), Shards: a.Shards, Epoch: int64(a.Ref.Epoch), Items: a.Items, Orders: a.Orders, Rebuilding: a.Closed,
		Findings: make([]findingDoc, len(a.Findings)),
	}
	for i := range a.Findings {
		f := &a.Findings[i]
		doc.Findings[i] = findingDoc{Kind: f.Kind, Item: uint32(f.Item), Detail: f.Detail, Mended: f.Mended}
		if offer, ok := c.server.deps.Catalog().Offer(f.Item); ok {
			doc.Findings[i].Activity, doc.Findings[i].SKU = offer.Sale.ID, offer.SKU
		}
	}
	return c.json(http.StatusOK, doc)
}

// Partition is how far the workers have read a partition of the queue.
type Partition struct {
	Number int32  `json:"partition"`
	Next   int64  `json:"next"`  // the offset of the record that a worker reads next
	Start  int64  `json:"start"` // the first offset of the log
	End    int64  `json:"end"`   // the offset after its last record
	Behind int64  `json:"behind"`
	State  string `json:"state"` // ok, lost, unknown
	Detail string `json:"detail,omitempty"`
}

type queueDoc struct {
	Partitions []Partition `json:"partitions"`
}

// getQueue answers GET /admin/v1/queue.
func (c *call) getQueue() error {
	partitions, err := c.server.deps.Queue(c.context())
	if err != nil {
		return failed("look at the queue", err)
	}
	return c.json(http.StatusOK, queueDoc{partitions})
}
