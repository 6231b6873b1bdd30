package admin

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// refundDoc is a payment that has to be refunded, or was refunded. Since is the time when its
// notice came.
type refundDoc struct {
	Payment   seckill.PaymentID    `json:"payment"`
	Order     seckill.OrderID      `json:"order"`
	Merchant  seckill.MerchantID   `json:"merchant"`
	Activity  seckill.ActivityID   `json:"activity"`
	SKU       seckill.SKU          `json:"sku"`
	Amount    int64                `json:"amount"`
	Currency  string               `json:"currency"`
	Cause     seckill.RefundCause  `json:"cause"`
	State     seckill.PaymentState `json:"state"`
	Since     stamp                `json:"since"`
	DoneAt    *stamp               `json:"done_at,omitempty"`
	DoneBy    string               `json:"done_by,omitempty"`
	Reference string               `json:"reference,omitempty"`
	// OrderStatus is the order's status after a refund was settled; null if its row is gone.
	OrderStatus *seckill.OrderState `json:"order_status,omitempty"`
}

func newRefundDoc(k *seckill.KeptPayment) refundDoc {
	return refundDoc{
		Payment: k.ID, Order: k.Order, Merchant: k.Merchant, Activity: k.Activity, SKU: k.SKU, Amount: k.Amount.Minor,
		Currency: k.Amount.Currency, Cause: k.Cause, State: k.State, Since: stamp(k.KeptAt), DoneAt: stampOrNull(k.DoneAt),
		DoneBy: k.DoneBy, Reference: k.Reference,
	}
}

// refundsDoc is a page of refunds. Sum covers all refunds, not only the page.
type refundsDoc struct {
	Refunds []refundDoc    `json:"refunds"`
	Sum     []refundSumDoc `json:"sum"`
	Next    string         `json:"next,omitempty"`
}

// refundSumDoc is the sum of a currency.
type refundSumDoc struct {
	Currency string             `json:"currency"`
	Amount   int64              `json:"amount"`
	Count    int64              `json:"count"`
	By       []refundSumPartDoc `json:"by"`
}

// refundSumPartDoc is the part of a sum that belongs to one merchant and one cause.
type refundSumPartDoc struct {
	Merchant seckill.MerchantID  `json:"merchant"`
	Cause    seckill.RefundCause `json:"cause"`
	Amount   int64               `json:"amount"`
	Count    int64               `json:"count"`
}

// sumsOf groups sums by currency, in the order in which the currencies first appear.
func sumsOf(sums []seckill.RefundSum) []refundSumDoc {
	docs := []refundSumDoc{}
	at := make(map[string]int)
	for i := range sums {
		s := &sums[i]
		n, ok := at[s.Amount.Currency]
		if !ok {
			n = len(docs)
			at[s.Amount.Currency] = n
			docs = append(docs, refundSumDoc{Currency: s.Amount.Currency})
		}
		d := &docs[n]
		d.Amount, d.Count = d.Amount+s.Amount.Minor, d.Count+s.Count
		d.By = append(d.By, refundSumPartDoc{s.Merchant, s.Cause, s.Amount.Minor, s.Count})
	}
	return docs
}

// listRefunds answers GET /admin/v1/refunds, the latest first.
func (c *call) listRefunds() error {
	m := new(mistakes)
	query := c.takePage(m, 2, []string{"state", "merchant"})
	q := seckill.RefundQuery{State: seckill.PaymentStateDue, Merchant: seckill.MerchantID(query.Get("merchant"))}
	if query.Has("merchant") {
		m.add("parameter merchant", seckill.CheckName(string(q.Merchant)))
	}
	var err error
	if q.Merchant, err = c.boundMerchant(q.Merchant); err != nil {
		return err
	}
	if query.Has("state") {
		if q.State = seckill.PaymentState(query.Get("state")); q.State != seckill.PaymentStateDue && q.State != seckill.PaymentStateDone {
			m.add("parameter state", "must be due or done")
		}
	}
	if query.names != nil {
		key := seckill.PaymentKey{Merchant: seckill.MerchantID(query.names[0]), ID: seckill.PaymentID(query.names[1])}
		q.Before = seckill.RefundMark{KeptAt: query.at, PaymentKey: key}
	}
	if err := m.err(); err != nil {
		return err
	}
	q.Limit = query.limit + 1
	found, err := c.server.deps.Office.Refunds(c.context(), q)
	if err != nil {
		return err
	}
	sums, err := c.server.deps.Office.RefundSums(c.context(), q.State, q.Merchant)
	if err != nil {
		return err
	}
	doc := refundsDoc{Refunds: []refundDoc{}, Sum: sumsOf(sums)}
	if len(found) > query.limit {
		found = found[:query.limit]
		last := found[query.limit-1].Mark()
		doc.Next = newCursor(query.Values, last.KeptAt, string(last.Merchant), string(last.ID))
	}
	for i := range found {
		doc.Refunds = append(doc.Refunds, newRefundDoc(&found[i]))
	}
	return c.json(http.StatusOK, doc)
}

// maxReference bounds a provider's reference, in characters.
const maxReference = 200

// settleRefund answers POST /admin/v1/refunds/{payment}/done.
func (c *call) settleRefund() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	r := seckill.Refund{Payment: seckill.PaymentID(c.r.PathValue("payment")), Reference: o.checked("reference", checkReference)}
	query := c.queryNames(m, "merchant")
	merchant, given := o.optionalText("merchant")
	if query.Has("merchant") {
		if given && merchant != query.Get("merchant") {
			m.add("merchant", "is not the same as the parameter merchant")
		}
		merchant, given = query.Get("merchant"), true
	}
	if r.Merchant = seckill.MerchantID(merchant); given {
		m.add("merchant", seckill.CheckName(merchant))
	}
	if r.Merchant, err = c.boundMerchant(r.Merchant); err != nil {
		return err
	}
	r.Amount = o.takeAmount()
	reason := c.reason(o, m, false)
	o.end()
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	kept, order, err := c.server.deps.Office.SettleRefund(ctx, r, c.author(reason))
	if err != nil {
		return err
	}
	doc := newRefundDoc(&kept)
	doc.OrderStatus = orNull(order.State)
	return c.json(http.StatusOK, doc)
}

func checkReference(s string) string {
	switch {
	case s == "":
		return "must not be empty"
	case utf8.RuneCountInString(s) > maxReference:
		return fmt.Sprintf("must be at most %d characters", maxReference)
	}
	return problem.IllegibleText(s)
}

// takeAmount takes amount and currency, which must be given together.
func (o *object) takeAmount() *seckill.Money {
	given := func(name string) bool { return o.raw[name] != nil && string(o.raw[name]) != "null" }
	if !given("amount") && !given("currency") {
		o.take("amount")
		o.take("currency")
		return nil
	}
	money := seckill.Money{Minor: o.integer("amount"), Currency: o.text("currency")}
	return &money
}

// extendDoc tells how many orders got more time to pay.
type extendDoc struct {
	Activity seckill.ActivityID `json:"activity"`
	By       string             `json:"by"`
	Orders   int64              `json:"orders"`
}

// maxExtension is the most that one request may extend the time to pay.
const maxExtension = 30 * 24 * time.Hour

// extend answers POST /admin/v1/activities/{activity}/extend.
func (c *call) extend() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	before := len(m.errs)
	by, reason := o.duration("by"), c.reason(o, m, false)
	if len(m.errs) == before && (by < time.Second || by > maxExtension) {
		m.add("by", fmt.Sprintf("must be from 1s to %s", shortDuration(maxExtension)))
	}
	o.end()
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	by = by.Truncate(time.Millisecond)
	n, err := c.server.deps.Office.ExtendOrders(ctx, c.pathActivity(), by, c.author(reason))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, extendDoc{c.pathActivity(), shortDuration(by), n})
}

// statementDoc is a merchant's statement. Total has a line for each currency.
type statementDoc struct {
	Merchant seckill.MerchantID  `json:"merchant"`
	From     stamp               `json:"from"`
	To       stamp               `json:"to"`
	Lines    []statementLineDoc  `json:"lines"`
	Total    []statementTotalDoc `json:"total"`
}

type statementLineDoc struct {
	Day      string             `json:"day"`
	Activity seckill.ActivityID `json:"activity"`
	SKU      seckill.SKU        `json:"sku"`
	statementTotalDoc
}

type statementTotalDoc struct {
	Currency  string          `json:"currency"`
	Sold      orderTallyDoc   `json:"sold"`
	Cancelled orderTallyDoc   `json:"cancelled"`
	RefundDue paymentTallyDoc `json:"refund_due"`
	Refunded  paymentTallyDoc `json:"refunded"`
}

type orderTallyDoc struct {
	Orders int64 `json:"orders"`
	Units  int64 `json:"units"`
	Amount int64 `json:"amount"`
}

func newOrderTallyDoc(t *seckill.Tally) orderTallyDoc {
	return orderTallyDoc{t.Count, t.Units, t.Amount}
}

type paymentTallyDoc struct {
	Payments int64 `json:"payments"`
	Amount   int64 `json:"amount"`
}

func newStatementTotalDoc(l *seckill.StatementRow) statementTotalDoc {
	return statementTotalDoc{
		Currency: l.Currency, Sold: newOrderTallyDoc(&l.Sold), Cancelled: newOrderTallyDoc(&l.Cancelled),
		RefundDue: paymentTallyDoc{l.RefundDue.Count, l.RefundDue.Amount}, Refunded: paymentTallyDoc{l.Refunded.Count, l.Refunded.Amount},
	}
}

// statement answers GET /admin/v1/merchants/{merchant}/statement.
func (c *call) statement() error {
	m := new(mistakes)
	query := c.queryNames(m, "from", "to", "format")
	now := time.Now().UTC()
	from, to := takeDay(m, query, "from", time.Unix(0, 0).UTC(), 0), takeDay(m, query, "to", now, 24*time.Hour)
	switch {
	case len(m.errs) > 0 || from.Before(to):
	case query.Has("to"):
		m.add("parameter to", "must be after from")
	default:
		m.add("parameter from", "must be in the past, or before to")
	}
	format := takeFormat(m, query, "json", "csv")
	if err := m.err(); err != nil {
		return err
	}
	_, merchant, err := c.pathMerchant()
	if err != nil {
		return err
	}
	lines, err := c.server.deps.Office.Statement(c.context(), merchant, from, to)
	if err != nil {
		return err
	}
	if format == "csv" {
		return c.statementCSV(merchant, lines)
	}
	doc := statementDoc{Merchant: merchant, From: stamp(from), To: stamp(to), Lines: []statementLineDoc{}, Total: []statementTotalDoc{}}
	var total seckill.Statement
	for i := range lines {
		l := &lines[i]
		doc.Lines = append(doc.Lines, statementLineDoc{l.Day, l.Activity, l.SKU, newStatementTotalDoc(l)})
		total.AddLine(seckill.StatementRow{
			Currency: l.Currency, Sold: l.Sold, Cancelled: l.Cancelled, RefundDue: l.RefundDue, Refunded: l.Refunded,
		})
	}
	for _, l := range total.Lines() {
		doc.Total = append(doc.Total, newStatementTotalDoc(&l))
	}
	return c.json(http.StatusOK, doc)
}

// takeDay takes a time, or a day (UTC). For a day it returns the beginning of the day plus rest.
func takeDay(m *mistakes, query url.Values, name string, fallback time.Time, rest time.Duration) time.Time {
	if !query.Has(name) {
		return fallback
	}
	if day, err := time.Parse(time.DateOnly, query.Get(name)); err == nil && day.Year() >= 1970 {
		return day.Add(rest)
	}
	before := len(m.errs)
	t := takeTime(m, query, name)
	if len(m.errs) > before {
		m.errs[before].Detail = strings.Replace(m.errs[before].Detail, "must be", "must be a day like 2026-06-18, or", 1)
	}
	return t
}

// statementColumns are the columns of a statement as CSV.
var statementColumns = []string{
	"day", "activity", "sku", "currency", "sold_orders", "sold_units", "sold_amount", "cancelled_orders", "cancelled_units",
	"cancelled_amount", "refund_due_payments", "refund_due_amount", "refunded_payments", "refunded_amount",
}

func (c *call) statementCSV(merchant seckill.MerchantID, lines []seckill.StatementRow) error {
	var body bytes.Buffer
	w := csv.NewWriter(&body)
	w.UseCRLF = true
	rows := [][]string{statementColumns}
	for i := range lines {
		l := &lines[i]
		row := []string{l.Day, cellText(l.Activity), cellText(l.SKU), l.Currency}
		for _, n := range []int64{
			l.Sold.Count, l.Sold.Units, l.Sold.Amount, l.Cancelled.Count, l.Cancelled.Units, l.Cancelled.Amount,
			l.RefundDue.Count, l.RefundDue.Amount, l.Refunded.Count, l.Refunded.Amount,
		} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		rows = append(rows, row)
	}
	if err := w.WriteAll(rows); err != nil {
		return fmt.Errorf("encode the statement: %w", err)
	}
	c.w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", "statement-"+string(merchant)+".csv"))
	c.write(http.StatusOK, typeCSV, body.Bytes())
	return nil
}
