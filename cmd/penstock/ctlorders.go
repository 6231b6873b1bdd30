package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock/seckill"
)

// orderMembers are the members of an order, in the order in which they are shown.
var orderMembers = []string{
	"order", "status", "reason", "merchant", "caller", "activity", "sku", "user", "quantity", "amount", "currency", "created_at", "pay_by",
	"updated_at", "request_id", "node",
}

// foundStates are the states in which a search finds orders.
var foundStates = []string{"pending_payment", "paid", "cancelled", "rejected", "refund_due", "refunded", "parked"}

// searchFlags are the flags of a search of orders, each with its query parameter.
var searchFlags = []struct{ name, parameter, help string }{
	{"user", "user", "orders of this buyer"},
	{"order", "order", "the order with this id, even if it is queued"},
	{"payment", "payment", "the order of this payment"},
	{"request-id", "request_id", "the order of this request (X-Request-Id)"},
	{"activity", "activity", "orders of this activity"},
	{"sku", "sku", "orders of this SKU"},
	{"caller", "caller", "orders of this caller: MERCHANT/CALLER, or its own name"},
	{"merchant", "merchant", "orders of this merchant"},
	{"state", "state", "orders in this state: " + orList(foundStates)},
	{"from", "from", "orders made at this time or later, like 2026-06-18T20:00:00+08:00"},
	{"to", "to", "orders made before this time"},
}

// addSearchFlags declares the flags of a search.
func addSearchFlags(cmd *cobra.Command) {
	for _, f := range searchFlags {
		cmd.Flags().String(f.name, "", f.help)
	}
	oneOf(cmd, "state", foundStates...)
}

// searchQuery makes the query of the flags that are given.
func searchQuery(cmd *cobra.Command) url.Values {
	query := url.Values{}
	for _, f := range searchFlags {
		if flag := cmd.Flags().Lookup(f.name); flag != nil && flag.Changed {
			query.Set(f.parameter, flag.Value.String())
		}
	}
	return query
}

// pages reads a list whose entries are the member name, page by page, at most `most` entries (0:
// all), and returns the answer of the first page, too.
func (s *session) pages(query url.Values, most int, name string, path ...string,
) (items []json.RawMessage, first json.RawMessage, err error) {
	for {
		if most > 0 {
			query.Set("limit", strconv.Itoa(min(most-len(items), 1000)))
		}
		text, _, err := s.call(s.cmd.Context(), adminRequest{method: http.MethodGet, path: path, query: query})
		if err != nil {
			return nil, nil, err
		}
		if first == nil {
			first = text
		}
		page, err := readMembers(text)
		if err != nil {
			return nil, nil, &exitError{exitFailure, err}
		}
		var some []json.RawMessage
		var next string
		if err := json.Unmarshal(page[name], &some); err != nil {
			return nil, nil, &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
		}
		if raw := page["next"]; raw != nil {
			if err := json.Unmarshal(raw, &next); err != nil {
				return nil, nil, &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
			}
		}
		items = append(items, some...)
		if next == "" || len(some) == 0 || most > 0 && len(items) >= most {
			return items, first, nil
		}
		query.Set("after", next)
	}
}

// upTo cuts a list that was read up to one entry more than its limit. It says so on stderr: a list
// that ends in silence is taken for all there is.
func (s *session) upTo(limit int, items []json.RawMessage) ([]json.RawMessage, error) {
	if len(items) <= limit {
		return items, nil
	}
	return items[:limit], s.note("there are more than these %d: --limit sets how many are listed", limit)
}

func orderCommands() []*cobra.Command {
	var limit int
	find := command("find [--user USER | --payment PAYMENT | …]",
		"Find orders in any state, newest first; it also works during a sale", cobra.NoArgs, false,
		func(s *session, _ []string) error {
			if limit <= 0 {
				return &exitError{exitUsage, fmt.Errorf("flag --limit: must be above zero")}
			}
			orders, _, err := s.pages(searchQuery(s.cmd), limit+1, "orders", "orders")
			if err != nil {
				return err
			}
			if orders, err = s.upTo(limit, orders); err != nil {
				return err
			}
			return s.printer.list(orders, "order", "status", "reason", "user", "activity", "sku", "quantity", "amount", "currency",
				"created_at", "updated_at")
		})
	addSearchFlags(find)
	find.Flags().IntVar(&limit, "limit", 50, "the most orders to list")
	find.Long = find.Short + `.

All flags that are given must fit. An order that is still queued has no row yet: it is found by --order alone.`
	show := command("show (ORDER | --user USER | --payment PAYMENT | …)",
		"Show orders with their payments, their history from the click to the refund, and what happens next", cobra.MaximumNArgs(1), false,
		func(s *session, args []string) error { return s.showOrders(args) })
	addSearchFlags(show)
	show.Long = show.Short + fmt.Sprintf(`.

Names the order, or says what is known of it, as "orders find" takes it: up to %d orders are shown, the newest first.`, mostShown)
	cancel := command("cancel ORDER", "Cancel an unpaid order for its buyer: its units go back on sale", cobra.ExactArgs(1), true,
		func(s *session, args []string) error {
			return s.show(post(nil, "orders", args[0], "cancel"), "order", "status", "reason", "user", "updated_at")
		})
	return []*cobra.Command{find, show, cancel, exportCommand()}
}

// mostShown is how many orders showOrders prints with all their details.
const mostShown = 5

// showOrders shows the order with the given id, or the orders that a search finds.
func (s *session) showOrders(args []string) error {
	query := searchQuery(s.cmd)
	switch {
	case len(args) == 1 && len(query) == 0:
		return s.showOrder(args[0])
	case (len(args) == 1) == (len(query) > 0):
		return &exitError{exitUsage, errors.New("name an order, or say what is known of it: --user, --payment, …")}
	}
	found, _, err := s.pages(query, mostShown+1, "orders", "orders")
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return &exitError{exitFailure, errors.New("no order fits")}
	}
	var all []json.RawMessage
	for i := range found[:min(len(found), mostShown)] {
		var o struct{ Order string }
		if err := json.Unmarshal(found[i], &o); err != nil {
			return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
		}
		if s.json {
			text, _, err := s.call(s.cmd.Context(), get("orders", o.Order))
			if err != nil {
				return err
			}
			all = append(all, text)
			continue
		}
		if i > 0 {
			if _, err := fmt.Fprintln(s.out); err != nil {
				return err
			}
		}
		if err := s.showOrder(o.Order); err != nil {
			return err
		}
	}
	if len(found) > mostShown {
		if err := s.note("there are more: see ctl orders find"); err != nil {
			return err
		}
	}
	if s.json {
		return s.value(map[string]any{"items": all})
	}
	return nil
}

// showOrder prints an order, its payments and its timeline.
func (s *session) showOrder(order string) error {
	text, _, err := s.call(s.cmd.Context(), get("orders", order))
	if err != nil {
		return err
	}
	if s.json {
		return s.object(text)
	}
	if err := s.object(text, orderMembers...); err != nil {
		return err
	}
	members, err := readMembers(text)
	if err != nil {
		return &exitError{exitFailure, err}
	}
	for _, part := range []struct {
		name    string
		columns []string
	}{
		{"payments", []string{"payment", "amount", "currency", "state", "cause", "at", "done_at", "reference", "problem", "count"}},
		{"timeline", []string{"at", "step", "node", "request_id", "detail"}},
	} {
		var rows []json.RawMessage
		if err := json.Unmarshal(members[part.name], &rows); err != nil {
			return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
		}
		if len(rows) == 0 {
			continue
		}
		if _, err := fmt.Fprintln(s.out); err != nil {
			return err
		}
		if err := s.table(rows, part.columns); err != nil {
			return err
		}
	}
	var o orderAhead
	if err := json.Unmarshal(text, &o); err != nil {
		return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
	}
	for _, line := range o.next(time.Now()) {
		if err := s.note("next: %s", line); err != nil {
			return err
		}
	}
	return nil
}

// orderAhead has the members of an order that decide its next step.
type orderAhead struct {
	Status   string
	PayBy    *time.Time `json:"pay_by"`
	Payments []struct{ Payment, State string }
}

// next describes what happens to an order by itself, and what a person has to do.
func (o *orderAhead) next(now time.Time) []string {
	is := map[string]string{
		"queued":          "a worker makes its row; if it is paid before that, the payment is kept",
		"pending_payment": "the buyer pays it, or it is cancelled when its time to pay is over",
		"paid":            "nothing: it is paid",
		"cancelled":       "nothing; if a payment still comes, it must be refunded",
		"rejected":        "nothing; if a payment still comes, it must be refunded",
		"refunded":        "nothing: the money was refunded",
		"refund_due":      "it becomes refunded when all of its money was refunded",
		"parked":          "a worker tries it again; see ctl dead-letters list for what needs a person",
	}[o.Status]
	if o.Status == "pending_payment" && o.PayBy != nil {
		is = "the buyer pays it, or it is cancelled at " + timeText(*o.PayBy, now) + " unless the switch timeouts is held"
	}
	lines := []string{is}
	for i := range o.Payments {
		if p := &o.Payments[i]; p.State == "due" {
			lines = append(lines, "the money of "+p.Payment+" must be refunded; afterwards: ctl refunds done PAYMENT --reference REFERENCE")
		}
	}
	return lines
}

// exportCommand writes all orders of an activity, each as soon as it is read.
func exportCommand() *cobra.Command {
	var format string
	export := command("export ACTIVITY [--format ndjson|csv]",
		"Write all orders of an activity to stdout, even while it sells", cobra.ExactArgs(1), false,
		func(s *session, args []string) error {
			query := searchQuery(s.cmd)
			query.Set("activity", args[0])
			query.Set("format", format)
			return s.stream(adminRequest{method: http.MethodGet, path: []string{"orders", "export"}, query: query}, s.out)
		})
	export.Flags().StringVar(&format, "format", "ndjson", "ndjson or csv")
	oneOf(export, "format", "ndjson", "csv")
	for _, f := range searchFlags {
		switch f.name {
		case "sku", "state", "from", "to":
			export.Flags().String(f.name, "", f.help)
		}
	}
	oneOf(export, "state", foundStates...)
	export.Long = export.Short + `.

The orders that are there when it begins, newest first. It ends with an error when the server breaks off: then the
output isn't all of them. --timeout bounds the whole export.`
	return export
}

// stream copies a successful answer of any size.
func (s *session) stream(r adminRequest, to io.Writer) error {
	request, response, err := s.ask(s.cmd.Context(), &s.http, r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return readError(r, request, response)
	}
	if _, err := io.Copy(to, response.Body); err != nil {
		return &exitError{exitDependency, fmt.Errorf("the answer broke off, so not everything was written: %w", err)}
	}
	return nil
}

func refundCommands() []*cobra.Command {
	var state, merchant string
	var limit int
	list := command("list [--state due|done] [--merchant MERCHANT]",
		"List payments to refund, newest first, with their sums",
		cobra.NoArgs, false, func(s *session, _ []string) error {
			if limit <= 0 {
				return &exitError{exitUsage, fmt.Errorf("flag --limit: must be above zero")}
			}
			query := url.Values{"state": {state}}
			if merchant != "" {
				query.Set("merchant", merchant)
			}
			refunds, first, err := s.pages(query, limit+1, "refunds", "refunds")
			if err != nil {
				return err
			}
			if refunds, err = s.upTo(limit, refunds); err != nil {
				return err
			}
			return s.showRefunds(refunds, first, state)
		})
	list.Flags().StringVar(&state, "state", "due", "due: must be refunded; done: was refunded")
	oneOf(list, "state", "due", "done")
	list.Flags().StringVar(&merchant, "merchant", "", "of this merchant alone")
	list.Flags().IntVar(&limit, "limit", 1000, "how many at most")

	var reference, of, currency string
	var amount int64
	done := command("done PAYMENT --reference REFERENCE", "Record that a payment was refunded", cobra.ExactArgs(1), true,
		func(s *session, args []string) error {
			body := map[string]any{"reference": reference}
			if of != "" {
				body["merchant"] = of
			}
			if s.cmd.Flags().Changed("amount") || currency != "" {
				body["amount"], body["currency"] = amount, currency
			}
			return s.show(post(body, "refunds", args[0], "done"), "payment", "merchant", "order", "order_status", "amount", "currency", "cause",
				"state", "done_at", "reference")
		})
	done.Flags().StringVar(&reference, "reference", "", "the provider's reference of the refund")
	done.Flags().StringVar(&of, "merchant", "", "the payment's merchant; required if several merchants have a payment with this id")
	done.Flags().Int64Var(&amount, "amount", 0, "the refunded amount in minor units; refused if another amount is due")
	done.Flags().StringVar(&currency, "currency", "", "the currency of --amount")
	done.MarkFlagsRequiredTogether("amount", "currency")
	required(done, "reference")
	return []*cobra.Command{list, done}
}

// showRefunds prints refunds, and on stderr their sums.
func (s *session) showRefunds(refunds []json.RawMessage, first json.RawMessage, state string) error {
	var page struct {
		Sum []struct {
			Currency      string
			Amount, Count int64
		}
	}
	if err := json.Unmarshal(first, &page); err != nil {
		return &exitError{exitFailure, fmt.Errorf("read the answer: %w", err)}
	}
	if s.json {
		members, err := readMembers(first)
		if err != nil {
			return &exitError{exitFailure, err}
		}
		if refunds == nil {
			refunds = []json.RawMessage{}
		}
		return s.value(map[string]any{"refunds": refunds, "sum": members["sum"]})
	}
	for _, sum := range page.Sum {
		money := seckill.Money{Minor: sum.Amount, Currency: sum.Currency}
		if err := s.note("%s: %s, %s", state, seckill.Counted(sum.Count, "payment"), money); err != nil {
			return err
		}
	}
	return s.printer.list(refunds, "payment", "merchant", "order", "amount", "currency", "cause", "since", "done_at", "reference")
}

// extendCommand gives buyers more time to pay.
func extendCommand() *cobra.Command {
	var by time.Duration
	cmd := command("extend ACTIVITY --by 30m", "Give the buyers of all open orders more time to pay", cobra.ExactArgs(1), true,
		func(s *session, args []string) error {
			return s.show(post(map[string]any{"by": by.String()}, "activities", args[0], "extend"), "activity", "by", "orders")
		})
	cmd.Flags().DurationVar(&by, "by", 0, "how much more time, like 30m")
	cmd.Long = cmd.Short + `.

It moves pay_by of the orders that are open now. While a payment provider is away, "switches set timeouts held" keeps
orders from being cancelled at all.`
	required(cmd, "by")
	return cmd
}

// statementCommand prints how much a merchant sold, and how much money it has to refund.
func statementCommand() *cobra.Command {
	var from, to, format string
	cmd := command("statement MERCHANT [--from DAY] [--to DAY]", "Show units and money by day, activity and item", cobra.ExactArgs(1), false,
		func(s *session, args []string) error {
			query := url.Values{}
			for name, value := range map[string]string{"from": from, "to": to} {
				if value != "" {
					query.Set(name, value)
				}
			}
			r := adminRequest{method: http.MethodGet, path: []string{"merchants", args[0], "statement"}, query: query}
			if !s.json || s.cmd.Flags().Changed("format") && format == "csv" {
				query.Set("format", "csv")
				return s.stream(r, s.out)
			}
			return s.show(r)
		})
	cmd.Flags().StringVar(&from, "from", "", "first day (UTC) like 2026-06-18, or a time; default: the beginning")
	cmd.Flags().StringVar(&to, "to", "", "last day, or the time at which it ends; default: now")
	cmd.Flags().StringVar(&format, "format", "csv", "csv; with -o json the answer is JSON")
	oneOf(cmd, "format", "csv")
	cmd.Long = cmd.Short + `.

Sold and cancelled orders count on the day on which they were paid or cancelled, refunds that are due on the day on
which the payment came, and refunds that are done on the day on which that was told. Amounts are in minor units.`
	return cmd
}
