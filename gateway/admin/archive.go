package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// archiveMargin allows for a difference between the clocks of this process and the database: a
// payment this short before an archive counts as later.
const archiveMargin = 10 * time.Second

type archivedDoc struct {
	Activity  seckill.ActivityID `json:"activity"`
	Orders    int64              `json:"orders"`
	Sum       string             `json:"sha256"`
	At        stamp              `json:"at"`
	KeptUntil stamp              `json:"kept_until"` // its orders are dropped after it
}

// archive answers POST /admin/v1/activities/{activity}/archive: it allows the server to drop the
// orders, because the client has exported them. The checksum of the export proves that it is
// complete.
func (c *call) archive() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	sum, confirmed, reason := o.text("sha256"), o.boolean("confirm"), c.reason(o, m, false)
	o.end()
	if raw, err := hex.DecodeString(sum); len(m.errs) == 0 && (err != nil || len(raw) != sha256.Size || strings.ToLower(sum) != sum) {
		m.add("sha256", "must be the SHA-256 of the export, as 64 hexadecimal digits")
	}
	if len(m.errs) == 0 && !confirmed {
		m.add("confirm", "must be true: the orders are dropped for good")
	}
	if err := m.err(); err != nil {
		return err
	}
	a, err := c.server.findActivity(c.context(), c.pathActivity())
	switch {
	case err != nil:
		return err
	case a.State != seckill.ActivityEnded:
		return refuse(problem.ActivityState, fmt.Sprintf("The activity is %s: only the orders of an ended one are archived.", a.State))
	}
	done, err := c.takeLargeBody() // it is as much work as a large body, so only few run at once
	if err != nil {
		return err
	}
	defer done()
	at := c.settingsTime().Add(-archiveMargin)
	copied, err := c.copyOf(a.ID)
	switch {
	case err != nil:
		return failed("read the orders", err)
	case copied.open > 0:
		return refuse(problem.ActivityState,
			fmt.Sprintf("There may still be payments for %s: wait until their time is over.", seckill.Counted(copied.open, "open order")))
	case copied.due > 0:
		return refuse(problem.ActivityState,
			fmt.Sprintf("The money of %s has to be refunded: settle the refunds first.", seckill.Counted(copied.due, "order")))
	case copied.sum != sum:
		return refuse(problem.ActivityState,
			fmt.Sprintf("The archive doesn't match the present orders, %s: export them again.", seckill.Counted(copied.orders, "order")))
	}
	ctx, cancel := c.lasting()
	defer cancel()
	if a, err = c.server.deps.Office.Archive(ctx, a.ID, seckill.Archive{At: at, Sum: sum}, c.author(reason)); err != nil {
		return err
	}
	return c.json(http.StatusOK, archivedDoc{a.ID, copied.orders, sum, stamp(a.Archive.At), stamp(c.server.deps.Office.KeptUntil(a))})
}

// orderCopy is the summary of an activity's export.
type orderCopy struct {
	orders, open, due int64
	sum               string
}

// copyOf reads an activity's orders as an export does.
func (c *call) copyOf(id seckill.ActivityID) (orderCopy, error) {
	var out orderCopy
	digest := sha256.New()
	lines := orderLines(digest)
	controller := http.NewResponseController(c.w)
	q := seckill.OrderQuery{Activity: id, Limit: exportPage}
	for {
		if err := controller.SetWriteDeadline(time.Now().Add(c.server.cfg.WriteTimeout)); err != nil {
			return out, err
		}
		page, err := c.nextOrders(&q)
		if err != nil {
			return out, err
		}
		for i := range page {
			switch page[i].State {
			case seckill.OrderQueued, seckill.OrderPending, seckill.OrderParked:
				out.open++
			case seckill.OrderRefundDue:
				out.due++
			}
			if err := lines.Encode(newOrderDoc(&page[i])); err != nil {
				return out, err
			}
		}
		out.orders += int64(len(page))
		if len(page) < exportPage {
			out.sum = hex.EncodeToString(digest.Sum(nil))
			return out, nil
		}
		q.Before = page[len(page)-1].Mark()
	}
}
