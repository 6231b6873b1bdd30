package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

type deadLetterDoc struct {
	ID        int64  `json:"id"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	At        stamp  `json:"at"`
	Problem   string `json:"problem"`
	// Order is the parked order of the letter. It is missing if the letter is a whole record.
	// Orders are the orders that the record's header names.
	Order  seckill.OrderID   `json:"order,omitempty"`
	Orders []seckill.OrderID `json:"orders,omitempty"`
	Value  []byte            `json:"value,omitempty"` // base64; it names buyers, so only support sees it
}

func newDeadLetterDoc(l *seckill.DeadLetter, who *identity) deadLetterDoc {
	doc := deadLetterDoc{
		ID: l.ID, Order: l.Order, Partition: l.Partition, Offset: l.Offset, At: stamp(l.At), Problem: l.Problem,
	}
	if who.seesBuyers() {
		doc.Value = l.Value
	}
	doc.Orders = seckill.LetterOrders(l)
	return doc
}

// listDeadLetters answers GET /admin/v1/dead-letters, oldest first.
func (c *call) listDeadLetters() error {
	m := new(mistakes)
	after := c.number(m, "after", 0, 0, maxID)
	limit := int(c.number(m, "limit", defaultPage, 1, maxPage))
	if err := m.err(); err != nil {
		return err
	}
	letters, err := c.server.deps.Store.DeadLetters(c.context(), after, limit+1)
	if err != nil {
		return failed("read dead letters", err)
	}
	var next any
	if len(letters) > limit {
		letters = letters[:limit]
		next = letters[limit-1].ID
	}
	docs := make([]deadLetterDoc, len(letters))
	for i := range letters {
		docs[i] = newDeadLetterDoc(&letters[i], &c.token)
	}
	return c.json(http.StatusOK, page[deadLetterDoc]{docs, next})
}

// maxID is the largest number that JSON carries everywhere.
const maxID = 1<<53 - 1

// letterBatch is how many dead letters are read, replayed or discarded at once.
const letterBatch = 100

// maxLetters is how many dead letters one request may name.
const maxLetters = 1_000

// selection has the dead letters that a request names.
type selection struct {
	all    bool
	ids    []int64 // sorted, each once
	reason string

	confirmed bool
}

// takeSelection reads {"ids": […]} or {"all": true}, and confirm, if the action can't be undone.
func (c *call) takeSelection(confirm bool) (selection, error) {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return selection{}, err
	}
	s := selection{all: o.boolean("all"), reason: c.reason(o, m, false)}
	if confirm {
		s.confirmed = o.boolean("confirm")
	}
	raw := o.elements("ids", o.take("ids"))
	o.end()
	switch {
	case len(m.errs) > 0:
	case s.all == (len(raw) > 0):
		m.add("ids", "must name dead letters; leave it out if all is true")
	case len(raw) > maxLetters:
		m.add("ids", fmt.Sprintf("must be at most %d", maxLetters))
	}
	for i := range raw[:min(len(raw), maxLetters)] {
		id, err := strconv.ParseInt(string(raw[i]), 10, 64)
		if err != nil || id <= 0 {
			m.add(fmt.Sprintf("ids[%d]", i), "must be a whole number above zero")
		}
		s.ids = append(s.ids, id)
	}
	slices.Sort(s.ids)
	s.ids = slices.Compact(s.ids)
	return s, m.err()
}

// pathLetter is the selection of the dead letter that the path names.
func (c *call) pathLetter() (selection, error) {
	reason, err := c.onlyReason()
	if err != nil {
		return selection{}, err
	}
	id, ok := c.pathNumber("id", 1)
	if !ok {
		return selection{}, refuse(problem.UnknownDeadLetter, "")
	}
	return selection{ids: []int64{id}, reason: reason}, nil
}

// each calls f with the ids of the selected dead letters, in batches, until f returns an error.
// "all" means the letters that exist now, not letters that come later.
func (c *call) each(ctx context.Context, s selection, f func(ids []int64) error) error {
	if !s.all {
		for ids := range slices.Chunk(s.ids, letterBatch) {
			there, err := c.existing(ctx, ids)
			if err != nil {
				return err
			}
			if len(there) == 0 {
				continue
			}
			if err := f(there); err != nil {
				return err
			}
		}
		return nil
	}
	last, err := c.lastLetter(ctx)
	if err != nil {
		return err
	}
	for after := int64(0); after < last; {
		letters, err := c.server.deps.Store.DeadLetters(ctx, after, letterBatch)
		if err != nil {
			return failed("read dead letters", err)
		}
		var ids []int64
		for i := range letters {
			if letters[i].ID <= last {
				ids = append(ids, letters[i].ID)
			}
		}
		if len(ids) == 0 {
			return nil
		}
		after = ids[len(ids)-1]
		if err := f(ids); err != nil {
			return err
		}
	}
	return nil
}

// existing returns those of the ids that are dead letters.
func (c *call) existing(ctx context.Context, ids []int64) (there []int64, err error) {
	for _, id := range ids {
		found, err := c.server.deps.Store.DeadLetters(ctx, id-1, 1)
		if err != nil {
			return nil, failed("read dead letters", err)
		}
		if len(found) == 1 && found[0].ID == id {
			there = append(there, id)
		}
	}
	return there, nil
}

// lastLetter returns the id of the newest dead letter, 0 without one.
func (c *call) lastLetter(ctx context.Context) (last int64, err error) {
	for {
		letters, err := c.server.deps.Store.DeadLetters(ctx, last, maxPage)
		if err != nil {
			return 0, failed("read dead letters", err)
		}
		if len(letters) == 0 {
			return last, nil
		}
		last = letters[len(letters)-1].ID
	}
}

// replayedDoc counts the orders of replayed letters by outcome. Letters whose orders are still
// parked stay.
type replayedDoc struct {
	Letters  int `json:"letters"`  // the letters that were tried
	Replayed int `json:"replayed"` // orders that are no longer parked
	Opened   int `json:"opened"`
	Rejected int `json:"rejected"`
	Parked   int `json:"parked"`
}

type discardedDoc struct {
	Discarded int `json:"discarded"`
}

func (c *call) replayMany() error {
	s, err := c.takeSelection(false)
	if err != nil {
		return err
	}
	return c.replay(s)
}

func (c *call) replayOne() error {
	s, err := c.pathLetter()
	if err != nil {
		return err
	}
	return c.replay(s)
}

// replay tries the parked orders of dead letters again.
func (c *call) replay(s selection) error {
	ctx, cancel := c.lasting()
	defer cancel()
	var doc replayedDoc
	err := c.each(ctx, s, func(ids []int64) error {
		accepted, err := c.server.deps.Office.Replay(ctx, ids, c.author(s.reason))
		doc.Letters += len(ids)
		for i := range accepted {
			doc.count(accepted[i].Outcome)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case doc.Letters == 0 && !s.all:
		return refuse(problem.UnknownDeadLetter, "")
	}
	return c.json(http.StatusOK, doc)
}

func (d *replayedDoc) count(outcome seckill.Outcome) {
	switch outcome {
	case seckill.OutcomeParked:
		d.Parked++
		return
	case seckill.OutcomeRejected:
		d.Rejected++
	case seckill.OutcomeOpened:
		d.Opened++
	}
	d.Replayed++
}

func (c *call) discardMany() error {
	s, err := c.takeSelection(true)
	if err != nil {
		return err
	}
	return c.discard(s)
}

func (c *call) discardOne() error {
	s, err := c.pathLetter()
	if err != nil {
		return err
	}
	return c.discard(s)
}

// discard discards dead letters: their orders are rejected.
func (c *call) discard(s selection) error {
	ctx, cancel := c.lasting()
	defer cancel()
	var doc discardedDoc
	if s.all && !s.confirmed {
		m := new(mistakes)
		m.add("confirm", "must be true: this rejects the orders of all dead letters for good")
		return m.err()
	}
	err := c.each(ctx, s, func(ids []int64) error {
		n, err := c.server.deps.Office.Discard(ctx, ids, c.author(s.reason))
		doc.Discarded += n
		return err
	})
	if err != nil {
		return err
	}
	if doc.Discarded == 0 && !s.all {
		return refuse(problem.UnknownDeadLetter, "")
	}
	return c.json(http.StatusOK, doc)
}
