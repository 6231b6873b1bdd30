package admin

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
	"github.com/penstock/penstock/seckill/desk"
)

// orderDoc is an order for operators: the public members, and merchant, caller, request and node.
type orderDoc struct {
	Order     seckill.OrderID    `json:"order"`
	Merchant  seckill.MerchantID `json:"merchant"`
	Caller    seckill.CallerID   `json:"caller"`
	Activity  seckill.ActivityID `json:"activity"`
	SKU       seckill.SKU        `json:"sku"`
	User      seckill.UserID     `json:"user"`
	Quantity  int                `json:"quantity"`
	Status    seckill.OrderState `json:"status"`
	Reason    *seckill.Reason    `json:"reason"`
	Amount    int64              `json:"amount"`
	Currency  *string            `json:"currency"` // null for a tombstone
	CreatedAt *stamp             `json:"created_at"`
	PayBy     *stamp             `json:"pay_by"`
	UpdatedAt *stamp             `json:"updated_at"`
	RequestID *string            `json:"request_id"`
	Node      *string            `json:"node"`
}

func newOrderDoc(o *seckill.Order) orderDoc {
	doc := orderDoc{
		Order: o.ID, Merchant: o.Caller.Merchant, Caller: o.Caller.Caller, Activity: o.Activity, SKU: o.SKU, User: o.User,
		Quantity: o.Quantity, Status: o.State, Amount: o.Amount.Minor, Currency: orNull(o.Amount.Currency),
		CreatedAt: stampOrNull(o.CreatedAt), PayBy: stampOrNull(o.PayBy), UpdatedAt: stampOrNull(o.UpdatedAt),
		RequestID: orNull(o.Request), Node: orNull(o.Node), Reason: orNull(o.Reason),
	}
	if o.State == seckill.OrderParked {
		doc.PayBy = nil
	}
	return doc
}

func orNull[T ~string](s T) *T {
	if s == "" {
		return nil
	}
	return &s
}

func stampOrNull(t time.Time) *stamp {
	if t.IsZero() {
		return nil
	}
	s := stamp(t)
	return &s
}

// queryNames refuses unknown parameters of a query, and repeated ones: otherwise a search with a
// misspelt parameter would find everything.
func (c *call) queryNames(m *mistakes, known ...string) url.Values {
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		m.add("query", "is not well formed: "+err.Error())
		return url.Values{}
	}
	for name, values := range query {
		switch {
		case !slices.Contains(known, name):
			m.add("parameter "+name, "is unknown")
		case len(values) > 1:
			m.add("parameter "+name, "is given more than once")
		}
	}
	return query
}

// searchNames are the parameters of a search of orders.
var searchNames = []string{
	"user", "order", "payment", "request_id", "activity", "sku", "caller", "merchant", "state", "from", "to",
}

// orderSearch has the parameters of a search of orders.
type orderSearch struct {
	seckill.OrderQuery
	order   seckill.OrderID
	payment seckill.PaymentID
}

// takeSearch reads the parameters of a search. With a bound token it is for orders of the token's
// merchant.
func (c *call) takeSearch(m *mistakes, query url.Values) (s orderSearch, err error) {
	text := func(name string, longest int) string {
		value := query.Get(name)
		switch given := query.Has(name); {
		case given && value == "":
			m.add("parameter "+name, "must not be empty: leave it out")
		case utf8.RuneCountInString(value) > longest:
			m.add("parameter "+name, fmt.Sprintf("must be at most %d characters", longest))
		case given:
			m.add("parameter "+name, problem.IllegibleText(value))
		}
		return value
	}
	if id := text("order", seckill.MaxUserLength); id != "" {
		if s.order, err = seckill.ParseOrderID(id); err != nil {
			m.add("parameter order", "is not an order id")
		}
	}
	s.payment = seckill.PaymentID(text("payment", seckill.MaxNameLength))
	s.User = seckill.UserID(text("user", seckill.MaxUserLength))
	s.Request = text("request_id", seckill.MaxRequestLength)
	s.Activity = seckill.ActivityID(text("activity", seckill.MaxNameLength))
	s.SKU = seckill.SKU(text("sku", seckill.MaxNameLength))
	s.Merchant = seckill.MerchantID(text("merchant", seckill.MaxNameLength))
	s.takeCaller(m, text("caller", 2*seckill.MaxNameLength+1))
	if s.State = seckill.OrderState(query.Get("state")); query.Has("state") && !slices.Contains(seckill.OrderStates(), s.State) {
		m.add("parameter state", "must be one of "+joined(seckill.OrderStates())+"; a queued order can only be found by its id")
	}
	s.From, s.To = takeTime(m, query, "from"), takeTime(m, query, "to")
	if !s.From.IsZero() && !s.To.IsZero() && !s.From.Before(s.To) {
		m.add("parameter to", "must be after from")
	}
	s.Merchant, err = c.boundMerchant(s.Merchant)
	return s, err
}

// takeCaller takes a caller as merchant/caller, or only by its own name.
func (s *orderSearch) takeCaller(m *mistakes, text string) {
	merchant, caller, both := strings.Cut(text, "/")
	if !both {
		s.Caller = seckill.CallerID(text)
		return
	}
	if merchant == "" || caller == "" {
		m.add("parameter caller", "must be merchant/caller, or the caller's own name")
	}
	if s.Merchant != "" && s.Merchant != seckill.MerchantID(merchant) {
		m.add("parameter caller", "is a caller of another merchant than the parameter merchant")
	}
	s.Merchant, s.Caller = seckill.MerchantID(merchant), seckill.CallerID(caller)
}

func joined[T ~string](words []T) string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = string(w)
	}
	return strings.Join(texts, ", ")
}

// takeTime takes a time of the query; the zero time if there is none.
func takeTime(m *mistakes, query url.Values, name string) time.Time {
	if !query.Has(name) {
		return time.Time{}
	}
	t, ok := parseTime(query.Get(name))
	if t = t.UTC(); !ok || t.Year() < 1970 || t.Year() > 9999 {
		m.add("parameter "+name, "must be a time like 2026-06-18T20:00:00+08:00 (RFC 3339)")
		return time.Time{}
	}
	return t
}

// fingerprint identifies a query: it covers all parameters except those for paging.
func fingerprint(query url.Values) [8]byte {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if name != "after" && name != "limit" {
			fmt.Fprintf(&text, "%q=%q ", name, query[name])
		}
	}
	sum := sha256.Sum256([]byte(text.String()))
	return [8]byte(sum[:8])
}

// newCursor makes a value for the parameter after: a time and names, valid for one query.
func newCursor(query url.Values, at time.Time, names ...string) string {
	mark := fingerprint(query)
	raw := binary.BigEndian.AppendUint64(mark[:], uint64(at.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(raw, strings.Join(names, "\x00")...))
}

// cursorOf reads the parameter after, which newCursor made for the same query: a time and count
// names. ok is false if there is none.
func cursorOf(m *mistakes, query url.Values, count int) (at time.Time, names []string, ok bool) {
	text := query.Get("after")
	if !query.Has("after") {
		return at, nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err == nil && len(raw) >= 16 {
		names = strings.Split(string(raw[16:]), "\x00")
	}
	mark := fingerprint(query)
	switch {
	case len(names) != count:
		m.add("parameter after", "is not a cursor: send the value of next from an answer")
	case [8]byte(raw[:8]) != mark:
		m.add("parameter after", "is the cursor of another query: send it with the same parameters as before")
	default:
		return time.UnixMicro(int64(binary.BigEndian.Uint64(raw[8:]))).UTC(), names, true
	}
	return at, nil, false
}

// pageQuery has the parameters of a search with pages.
type pageQuery struct {
	url.Values
	limit int
	at    time.Time // the time of the last entry on the page before
	names []string  // its names; nil for the first page
}

// takePage takes the query of a search whose cursor has a time and some names. known are its other
// parameters.
func (c *call) takePage(m *mistakes, names int, known []string) pageQuery {
	q := pageQuery{Values: c.queryNames(m, append(slices.Clone(known), "limit", "after")...)}
	q.limit = int(c.number(m, "limit", defaultPage, 1, maxPage))
	q.at, q.names, _ = cursorOf(m, q.Values, names)
	return q
}

// ordersDoc is a page of orders. Next is missing on the last page.
type ordersDoc struct {
	Orders []orderDoc `json:"orders"`
	Next   string     `json:"next,omitempty"`
}

// searchOrders answers GET /admin/v1/orders, newest first.
func (c *call) searchOrders() error {
	m := new(mistakes)
	query := c.takePage(m, 1, searchNames)
	s, err := c.takeSearch(m, query.Values)
	if err != nil {
		return err
	}
	if query.names != nil {
		s.Before = seckill.OrderMark{CreatedAt: query.at, ID: seckill.OrderID(query.names[0])}
	}
	if err := m.err(); err != nil {
		return err
	}
	orders, more, err := c.findOrders(&s, query.limit)
	if err != nil {
		return err
	}
	doc := ordersDoc{Orders: make([]orderDoc, len(orders))}
	for i := range orders {
		doc.Orders[i] = newOrderDoc(&orders[i])
	}
	if more {
		last := orders[len(orders)-1].Mark()
		doc.Next = newCursor(query.Values, last.CreatedAt, string(last.ID))
	}
	return c.json(http.StatusOK, doc)
}

// findOrders finds a page of orders. more reports whether further pages follow.
func (c *call) findOrders(s *orderSearch, limit int) (orders []seckill.Order, more bool, err error) {
	office := c.server.deps.Office
	switch {
	case s.order != "":
		d, err := office.OrderDetails(c.context(), s.order)
		if isCode(err, problem.UnknownOrder) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		orders = []seckill.Order{d.Order}
		if s.payment != "" && !slices.ContainsFunc(d.Payments, func(k seckill.KeptPayment) bool { return k.ID == s.payment }) {
			orders = nil
		}
	case s.payment != "":
		if orders, err = office.OrdersPaidBy(c.context(), s.Merchant, s.payment); err != nil {
			return nil, false, err
		}
	default:
		q := s.OrderQuery
		q.Limit = limit + 1
		if orders, err = office.SearchOrders(c.context(), q); err != nil {
			return nil, false, err
		}
		return orders[:min(limit, len(orders))], len(orders) > limit, nil
	}
	orders = slices.DeleteFunc(orders, func(o seckill.Order) bool {
		return !s.Fits(&o) || s.Before != (seckill.OrderMark{}) && o.Mark().Compare(s.Before) <= 0
	})
	return orders[:min(limit, len(orders))], len(orders) > limit, nil
}

// isCode reports whether err is a refusal of that code.
func isCode(err error, code problem.Code) bool {
	return err != nil && problem.FromError(err).Code == code
}

// orderDetailsDoc is an order with its payments and its life.
type orderDetailsDoc struct {
	orderDoc
	Payments []orderPaymentDoc `json:"payments"`
	Timeline []stepDoc         `json:"timeline"`
}

// orderPaymentDoc is a payment of an order. State is booked, early, due, done or refused; Only a
// refused notice has problem and count.
type orderPaymentDoc struct {
	Payment   seckill.PaymentID   `json:"payment"`
	Amount    int64               `json:"amount"`
	Currency  string              `json:"currency"`
	State     string              `json:"state"`
	Cause     seckill.RefundCause `json:"cause,omitempty"`
	At        stamp               `json:"at"`
	DoneAt    *stamp              `json:"done_at,omitempty"`
	DoneBy    string              `json:"done_by,omitempty"`
	Reference string              `json:"reference,omitempty"`
	Problem   seckill.Code        `json:"problem,omitempty"`
	Count     int                 `json:"count,omitempty"`
}

// stepDoc is a step of an order's life. If seen is set, at is the time when the step was read, not
// when it happened.
type stepDoc struct {
	At        stamp         `json:"at"`
	Step      desk.StepName `json:"step"`
	Node      *string       `json:"node"`
	RequestID *string       `json:"request_id"`
	Detail    string        `json:"detail"`
	Seen      bool          `json:"seen,omitempty"`
}

// pathOrder reads the order id of the path. A text that isn't an order id names no order.
func (c *call) pathOrder() (seckill.OrderID, error) {
	id, err := seckill.ParseOrderID(c.r.PathValue("order"))
	if err != nil {
		return "", errNoSuchOrder()
	}
	return id, nil
}

func errNoSuchOrder() error { return refuse(problem.UnknownOrder, "There is no order with this id.") }

// getOrder answers GET /admin/v1/orders/{order}.
func (c *call) getOrder() error {
	id, err := c.pathOrder()
	if err != nil {
		return err
	}
	d, err := c.orderDetails(c.context(), id)
	if err != nil {
		return err
	}
	doc := orderDetailsDoc{orderDoc: newOrderDoc(&d.Order), Payments: []orderPaymentDoc{}, Timeline: []stepDoc{}}
	for i := range d.Payments {
		k := &d.Payments[i]
		doc.Payments = append(doc.Payments, orderPaymentDoc{
			Payment: k.ID, Amount: k.Amount.Minor, Currency: k.Amount.Currency, State: string(k.State), Cause: k.Cause, At: stamp(k.KeptAt),
			DoneAt: stampOrNull(k.DoneAt), DoneBy: k.DoneBy, Reference: k.Reference,
		})
	}
	for i := range d.Refused {
		r := &d.Refused[i]
		doc.Payments = append(doc.Payments, orderPaymentDoc{
			Payment: r.ID, Amount: r.Amount.Minor, Currency: r.Amount.Currency, State: "refused", At: stamp(r.At),
			Problem: r.Problem, Count: r.Count,
		})
	}
	for i := range d.Steps {
		s := &d.Steps[i]
		doc.Timeline = append(doc.Timeline, stepDoc{stamp(s.At), s.Name, orNull(s.Node), orNull(s.RequestID), s.Detail, s.Seen})
	}
	return c.json(http.StatusOK, doc)
}

// orderDetails reads an order that the token's holder may see.
func (c *call) orderDetails(ctx context.Context, id seckill.OrderID) (desk.OrderDetails, error) {
	d, err := c.server.deps.Office.OrderDetails(ctx, id)
	if isCode(err, problem.UnknownOrder) || err == nil && !c.token.mayMerchant(d.Order.Caller.Merchant) {
		return d, errNoSuchOrder()
	}
	return d, err
}

// cancelOrder answers POST /admin/v1/orders/{order}/cancel.
func (c *call) cancelOrder() error {
	reason, err := c.onlyReason()
	if err != nil {
		return err
	}
	id, err := c.pathOrder()
	if err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	if c.token.merchant != "" {
		if _, err := c.orderDetails(ctx, id); err != nil {
			return err
		}
	}
	o, err := c.server.deps.Office.CancelOrder(ctx, id, c.author(reason))
	if isCode(err, problem.UnknownOrder) {
		return errNoSuchOrder()
	}
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, newOrderDoc(&o))
}

// exportPage is how many orders an export reads at once.
const exportPage = 1_000

// exportOrders answers GET /admin/v1/orders/export: all orders that were there when it began,
// newest first, as a stream. If the store fails in the middle, the connection is broken off: half
// an export must not look complete.
func (c *call) exportOrders() error {
	m := new(mistakes)
	query := c.queryNames(m, append(slices.Clone(searchNames), "format")...)
	s, err := c.takeSearch(m, query)
	if err != nil {
		return err
	}
	if s.Activity == "" && !query.Has("activity") {
		m.add("parameter activity", "is required")
	}
	if s.order != "" || s.payment != "" {
		m.add("query", "an export takes neither order nor payment: use a search for these")
	}
	format := takeFormat(m, query, "ndjson", "csv")
	if err := m.err(); err != nil {
		return err
	}
	v, err := c.server.catalog(c.context())
	if err != nil {
		return err
	}
	if v.Activity(s.Activity) == nil || !c.token.mayActivity(v, s.Activity) {
		return refuse(problem.UnknownActivity, "There is no activity with this name.")
	}
	done, err := c.takeLargeBody() // it is as much work as a large body, so only few run at once
	if err != nil {
		return err
	}
	defer done()
	s.Limit = exportPage
	page, err := c.server.deps.Office.SearchOrders(c.context(), s.OrderQuery)
	if err != nil {
		return err
	}
	e := newExport(c, format, string(s.Activity))
	for {
		if err := e.page(page); err != nil {
			panic(http.ErrAbortHandler) // the client is gone
		}
		if len(page) < exportPage {
			return nil
		}
		s.Before = page[len(page)-1].Mark()
		if page, err = c.nextOrders(&s.OrderQuery); err != nil {
			c.server.quiet.write(kindUnavailable, slog.LevelWarn, "export broken off", "activity", s.Activity, "request", c.id(), "err", err)
			panic(http.ErrAbortHandler)
		}
	}
}

// takeFormat takes the parameter format; the first of the formats is the default.
func takeFormat(m *mistakes, query url.Values, formats ...string) string {
	format := query.Get("format")
	if !query.Has("format") {
		return formats[0]
	}
	if !slices.Contains(formats, format) {
		m.add("parameter format", "must be "+strings.Join(formats, " or "))
	}
	return format
}

// export writes orders while they are read.
type export struct {
	call *call
	out  *bufio.Writer
	csv  *csv.Writer // nil for NDJSON
}

// typeCSV says in the content type that there is a header line (RFC 4180).
const (
	typeCSV    = "text/csv; charset=utf-8; header=present"
	typeNDJSON = "application/x-ndjson"
)

func newExport(c *call, format, name string) *export {
	e := &export{call: c, out: bufio.NewWriterSize(c.w, 1<<16)}
	contentType := typeNDJSON
	if format == "csv" {
		contentType, e.csv = typeCSV, csv.NewWriter(e.out)
		e.csv.UseCRLF = true
	}
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", "orders-"+name+"."+format))
	c.w.WriteHeader(http.StatusOK)
	if e.csv != nil {
		_ = e.csv.Write(orderColumns) // the first flush returns the error
	}
	return e
}

// orderColumns are the columns of an export as CSV, in the order of orderDoc.
var orderColumns = []string{
	"order", "merchant", "caller", "activity", "sku", "user", "quantity", "status", "reason", "amount", "currency",
	"created_at", "pay_by", "updated_at", "request_id", "node",
}

// nextOrders reads the next page of an export. Each page may take as long as a request, but not
// longer than the rest of the export.
func (c *call) nextOrders(q *seckill.OrderQuery) ([]seckill.Order, error) {
	ctx, cancel := context.WithTimeout(c.sent.Context(), c.server.cfg.RequestTimeout)
	defer cancel()
	return c.server.deps.Office.SearchOrders(ctx, *q)
}

// orderLines writes orders as the lines of an export.
func orderLines(w io.Writer) *json.Encoder {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder
}

// page writes a page of orders, and sends it.
func (e *export) page(orders []seckill.Order) error {
	controller := http.NewResponseController(e.call.w)
	if err := controller.SetWriteDeadline(time.Now().Add(e.call.server.cfg.WriteTimeout)); err != nil {
		return err
	}
	encoder := orderLines(e.out)
	for i := range orders {
		doc := newOrderDoc(&orders[i])
		var err error
		if e.csv != nil {
			err = e.csv.Write(doc.columns())
		} else {
			err = encoder.Encode(doc)
		}
		if err != nil {
			return err
		}
	}
	if e.csv != nil {
		if e.csv.Flush(); e.csv.Error() != nil {
			return e.csv.Error()
		}
	}
	if err := e.out.Flush(); err != nil {
		return err
	}
	return controller.Flush()
}

// cellText returns foreign text as a cell of CSV. A spreadsheet would run a text that begins like a
// formula, so an apostrophe is put before such a text. Numbers are not changed.
func cellText[T ~string](s T) string {
	text := string(s)
	if text == "" || !strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return text
	}
	if strings.Trim(text[1:], "0123456789.") == "" && text[0] != '=' && text[0] != '@' {
		return text
	}
	return "'" + text
}

// columns are an order's values for orderColumns; a null value is empty.
func (d *orderDoc) columns() []string {
	return []string{
		string(d.Order), cellText(d.Merchant), cellText(d.Caller), cellText(d.Activity), cellText(d.SKU), cellText(d.User),
		strconv.Itoa(d.Quantity), string(d.Status), orEmpty(d.Reason), strconv.FormatInt(d.Amount, 10), orEmpty(d.Currency),
		d.CreatedAt.text(), d.PayBy.text(), d.UpdatedAt.text(), cellText(orEmpty(d.RequestID)), cellText(orEmpty(d.Node)),
	}
}

func orEmpty[T ~string](s *T) string {
	if s == nil {
		return ""
	}
	return string(*s)
}

// text is the time in the form that JSON has, without quotes; "" for the zero time.
func (s *stamp) text() string {
	if s == nil {
		return ""
	}
	return time.Time(*s).UTC().Format(problem.TimeFormat)
}
