package postgres

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// said is a statement's latest use: its arguments, and the planner's settings at that moment.
type said struct {
	args     []any
	settings []string
}

// listener records every statement that a store sends.
type listener struct {
	mu    sync.Mutex
	heard map[string]said
	set   map[*pgx.Conn][]string // the planner's settings of the current transaction
}

func newListener() *listener {
	return &listener{heard: make(map[string]said), set: make(map[*pgx.Conn][]string)}
}

func (l *listener) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	l.note(conn, data.SQL, data.Args)
	return ctx
}

func (l *listener) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (l *listener) TraceBatchStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, q := range data.Batch.QueuedQueries {
		l.note(conn, q.SQL, q.Arguments)
	}
	return ctx
}

func (l *listener) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (l *listener) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func (l *listener) note(conn *pgx.Conn, text string, args []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case strings.HasPrefix(text, "BEGIN"), text == commit:
		delete(l.set, conn)
	case strings.Contains(text, "enable_"):
		l.set[conn] = append(l.set[conn], text)
	default:
		l.heard[text] = said{args, slices.Clone(l.set[conn])}
	}
}

// growing are the tables that grow with the sale, or for ever. Orders are listed by their
// partitions.
var growing = regexp.MustCompile(
	`Seq Scan on (orders_[1-9]\w*|payments|stock|stock_changes|withdrawals|changes|dead_letters|outbox|order_events|items)\b`)

// whole is a scan of an index of such a table. If no Index Cond follows, all of it is read.
// Withdrawals have no index for the statement that deletes those of an activity.
var whole = regexp.MustCompile(`Scan (Backward )?using \w+ on (orders_[1-9]\w*|payments|stock|stock_changes|outbox|items)\b`)

// readsAll reports whether a plan reads all of an index.
func readsAll(plan string) bool {
	lines := strings.Split(plan, "\n")
	for i, line := range lines {
		if whole.MatchString(line) && (i+1 == len(lines) || !strings.Contains(lines[i+1], "Index Cond")) {
			return true
		}
	}
	return false
}

var (
	sorts   = regexp.MustCompile(`(?m)^\s*->\s+Sort  \(`)
	repeats = regexp.MustCompile(`SubPlan \d+\n\s+->\s+(\w+ \w+)`)
)

// planScenario is a sale that is large enough to show bad plans, beside the orders of other weeks.
type planScenario struct {
	*testing.T
	store *Store
	conn  *pgx.Conn
	item  inventory.ItemID
	ref   inventory.Ref
	id    seckill.ActivityID
	by    seckill.Author
}

func newPlanScenario(t *testing.T, heard pgx.QueryTracer) *planScenario {
	t.Helper()
	url := servers.Postgres(t)
	store, err := Open(t.Context(), Config{URL: url, Shards: 4, Events: true, tracer: heard})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url+"&plan_cache_mode=force_custom_plan&jit=off&random_page_cost="+sessionSettings["random_page_cost"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		_ = conn.Close(context.Background())
	})
	s := &planScenario{T: t, store: store, conn: conn, id: "a-live", by: seckill.Author{Actor: "ann", Reason: "a test"}}
	s.no(seckill.PutMerchant(t.Context(), store, seckill.Merchant{ID: "m1", Name: "Phones", PaymentSecret: "x"}, s.by))
	for i := range 12 { // of weeks to come
		s.sell(seckill.ActivityID(fmt.Sprint("a-", i)), time.Duration(i+1)*7*24*time.Hour)
	}
	s.sell(s.id, time.Hour)
	s.fence()
	return s
}

func (s *planScenario) no(errs ...error) {
	s.Helper()
	for _, err := range errs {
		if err != nil {
			s.Fatal(err)
		}
	}
}

func (s *planScenario) sell(id seckill.ActivityID, length time.Duration) {
	s.Helper()
	item := seckill.Item{
		SKU: "x", Price: seckill.Money{Minor: 100, Currency: "CNY"}, Quantity: seckill.MaxItemQuantity - 2, PerUser: 2, Spread: 2,
	}
	a, err := s.store.UpdateActivity(s.Context(), id, s.by, func(*seckill.Activity) (*seckill.Activity, error) {
		return &seckill.Activity{ID: id, Merchant: "m1", Name: "Sale", State: seckill.ActivityPublished, StartsAt: time.Now(),
			EndsAt: time.Now().Add(length), PaymentWindow: time.Hour, Items: []seckill.Item{item}}, nil
	})
	s.no(err)
	s.item = a.Items[0].ID
	s.ref = inventory.Ref{Shard: inventory.Home(s.item, s.store.shards)}
}

func (s *planScenario) fence() {
	s.Helper()
	epoch, err := s.store.NextEpoch(s.Context(), s.ref.Shard)
	s.no(err)
	life, err := s.store.Incarnation(s.Context())
	s.ref.Epoch = epoch
	s.no(err, s.store.Fence(s.Context(), s.ref, life))
	s.no(s.store.Snapshot(s.Context(), s.ref, []inventory.ItemID{1}, func([]inventory.Stocked, []inventory.Entry) error { return nil }))
}

// fill adds rows without the store. ANALYZE isn't run, as in the first minute of a sale.
func (s *planScenario) fill(rows int) {
	s.Helper()
	for _, text := range []string{
		`INSERT INTO orders SELECT a.week, md5(n::text), i.id, 'm1', 'app', 'a-live', 'x', 'f-' || n, 1, 100, 'CNY', 'pending_payment', '',
				'open', now(), now() + '1 hour', now(), NULL, n % 4, 1, 1, 0, 0, '', '', now()
			FROM generate_series(1, $1::int) AS n, activities AS a JOIN items AS i USING (sale) WHERE a.id = 'a-live'`,
		`INSERT INTO payments SELECT 'm1', md5(n::text), 'o-' || n, 'a-' || n % 100, '', 1, 'CNY',
				CASE n % 10 WHEN 1 THEN 'early' WHEN 2 THEN 'due' WHEN 3 THEN 'done' ELSE 'booked' END, '', now(), now(), '', ''
			FROM generate_series(1, $1::int) AS n`,
		"INSERT INTO outbox (shard, item, kind, stock, name, buyer, quantity) SELECT n % 4, 1000 + n, 'void', false, n, '', 1 FROM generate_series(1, $1::int) AS n",
		`INSERT INTO order_events (at, count, steps) SELECT now(), 1, '\x010000' FROM generate_series(1, $1::int) AS n`,
		"INSERT INTO dead_letters (order_id, \"partition\", \"offset\", at, problem, value) SELECT '', 0, n, now(), '', '' FROM generate_series(1, $1::int) AS n",
		"INSERT INTO changes (at, actor, token, address, reason, kind, key, \"before\", \"after\") SELECT now(), '', '', '', '', '', '', '', '' FROM generate_series(1, $1::int) AS n",
		"INSERT INTO stock_changes SELECT 1, n, 1, now() FROM generate_series(1, $1::int) AS n",
		"INSERT INTO withdrawals SELECT 'h' || n, 1000 + n, n % 4, 1, false, now() FROM generate_series(1, $1::int) AS n",
		`INSERT INTO items (sale, position, sku, price, currency, per_user, max_orders, spread)
			SELECT 1, n, 's-' || n, 1, 'CNY', 1, 0, 1 FROM generate_series(1, $1::int) AS n`,
		"INSERT INTO stock (item, shard, total) SELECT id, shard, 1 FROM items, generate_series(0, 3) AS shard WHERE id > 20 AND $1 > 0",
	} {
		if _, err := s.conn.Exec(s.Context(), text, rows); err != nil {
			s.Fatalf("%s: %v", text, err)
		}
	}
}

// work makes all calls of a sale, in batches.
func (s *planScenario) work() {
	s.Helper()
	ctx, caller := s.Context(), seckill.CallerRef{Merchant: "m1", Caller: "app"}
	page := seckill.Page{PageHeader: seckill.PageHeader{Ref: s.ref}}
	var ids []seckill.OrderID
	var payments []seckill.Payment
	var cancels []seckill.Cancellation
	for i := range 300 {
		user, key := seckill.UserID(fmt.Sprint("u-", i)), fmt.Sprint(i)
		r := seckill.Promise{Order: seckill.NewOrderID(s.item, caller, user, key), Caller: caller, Activity: s.id, SKU: "x",
			User: user, Quantity: 1, Amount: seckill.Money{Minor: 100, Currency: "CNY"}}
		page.Promises, ids = append(page.Promises, r), append(ids, r.Order)
		payments = append(payments, seckill.Payment{Merchant: "m1", ID: seckill.PaymentID(key), Order: r.Order, Amount: r.Amount})
		cancels = append(cancels, seckill.Cancellation{Order: r.Order})
	}
	s.no(s.store.AddPartitions(ctx, seckill.TopicID{1}, 12))
	unfit := page.Promises[0]
	unfit.Order, unfit.SKU = seckill.NewOrderID(s.item, caller, "unfit", "k"), "y"
	at := seckill.Position{Topic: seckill.TopicID{1}, LeaderEpoch: -1}
	b := seckill.Batch{Pages: []seckill.Page{page}, Moves: []seckill.Move{{From: at, To: at}}, Park: true}
	_, err := s.store.Accept(ctx, b)
	s.no(err)
	b.Pages[0].Promises, b.Park = append(page.Promises, unfit), false
	_, err = s.store.Accept(ctx, b)
	s.no(err)
	s.sellOn(ids, payments, cancels)
	s.repair(ids)
	s.office()
	s.books(ids)
	s.clean()
}

// sellOn ends orders.
func (s *planScenario) sellOn(ids []seckill.OrderID, payments []seckill.Payment, cancels []seckill.Cancellation) {
	s.Helper()
	ctx, shards := s.Context(), []inventory.ShardID{0, 1, 2, 3}
	_, err := s.store.FindOrders(ctx, ids)
	s.no(err)
	_, err = s.store.OrdersOf(ctx, s.item, ids[0], 10)
	s.no(err)
	_, err = s.store.Pay(ctx, payments[:100])
	s.no(err)
	_, err = s.store.Cancel(ctx, cancels[:200])
	s.no(err)
	due := []string{string(ids[250]), string(ids[251])}
	if _, err := s.conn.Exec(ctx, "UPDATE orders SET pay_by = now() - interval '1 s' WHERE id = ANY($1)", due); err != nil {
		s.Fatal(err)
	}
	_, err = s.store.TimeOut(ctx, shards, nil, 100)
	s.no(err)
	_, err = s.store.Unpark(ctx, shards, 100)
	s.no(err)
	_, err = s.store.Relay(ctx, shards, 0, 100, func(context.Context, []seckill.Outgoing) []int { return []int{0} })
	s.no(err)
	_, err = s.store.RelayEvents(ctx, 100, func(context.Context, []seckill.Step) error { return nil })
	s.no(err)
	_, err = s.store.EventsWaiting(ctx)
	s.no(err)
}

// repair does what sweepers, rebuilders and auditors do.
func (s *planScenario) repair(ids []seckill.OrderID) {
	s.Helper()
	ctx := s.Context()
	life, err := s.store.Incarnation(ctx)
	s.no(err)
	holds := []inventory.Hold{
		{Item: s.item, ID: string(ids[0]), Quantity: 1}, {Item: s.item, ID: seckill.NewWithdrawalID(s.item, 0, "lost"), Quantity: 1},
		{Item: s.item, ID: string(seckill.NewOrderID(s.item, seckill.CallerRef{}, "b", "lost")), Buyer: "b", Quantity: 1},
	}
	_, err = s.store.Bury(ctx, s.ref, life, holds)
	s.no(err)
	_, _, err = s.store.Restock(ctx, seckill.StockChange{Item: s.item, Key: "r", Delta: 2}, s.by)
	s.no(err)
	taken := seckill.Taken{Ref: s.ref, Hold: inventory.Hold{Item: s.item, ID: seckill.NewWithdrawalID(s.item, s.ref.Shard, "w"), Quantity: 1}}
	_, _, err = s.store.Withdraw(ctx, seckill.StockChange{Item: s.item, Key: "w", Delta: -1}, []seckill.Taken{taken}, s.by)
	s.no(err)
	taken.Hold.ID = seckill.NewWithdrawalID(s.item, s.ref.Shard, "m")
	s.no(s.store.MoveUnits(ctx, taken, (s.ref.Shard+1)%4))
	_, _, err = s.store.FindStockChange(ctx, s.item, "w")
	s.no(err, s.store.MarkSuspect(ctx, s.ref))
	_, err = s.store.ActivityBooks(ctx, s.id)
	s.no(err)
	_, err = s.store.ShardBooks(ctx, s.ref.Shard, 0, 100)
	s.no(err)
	_, err = s.store.ShardSums(ctx, s.ref.Shard)
	s.no(err)
	_, err = s.store.Unpublished(ctx, s.id)
	s.no(err)
	s.fence()
}

// office does what people do.
func (s *planScenario) office() {
	s.Helper()
	ctx := s.Context()
	version := seckill.CatalogVersion{}
	for range 2 {
		var err error
		version, err = s.store.LoadCatalog(ctx, version, func(bool) {}, func(seckill.CatalogChange) error { return nil })
		s.no(err)
		s.no(seckill.PutMerchant(ctx, s.store, seckill.Merchant{ID: "m2", Name: fmt.Sprint(version.Number)}, s.by))
	}
	_, err := s.store.LoadCatalog(ctx, version, func(bool) {}, func(seckill.CatalogChange) error { return nil })
	s.no(err)
	for _, q := range []seckill.OrderQuery{
		{User: "u-1"}, {Request: "r"}, {Caller: "app"}, {Activity: s.id}, {State: seckill.OrderParked}, {State: seckill.OrderPending},
		{Activity: s.id, State: seckill.OrderPending}, {Activity: s.id, State: seckill.OrderPaid},
	} {
		q.Limit = 10
		_, err = s.store.SearchOrders(ctx, q)
		s.no(err)
	}
	_, err = s.store.Changes(ctx, 0, 10)
	s.no(err)
	_, err = s.store.FindChange(ctx, 1)
	s.no(err)
	letters, err := s.store.DeadLetters(ctx, 60_000, 10)
	s.no(err)
	_, err = s.store.ReplayDeadLetters(ctx, []int64{letters[0].ID}, s.by)
	s.no(err)
	_, err = s.store.DiscardDeadLetters(ctx, []int64{1, 2, letters[0].ID}, s.by)
	s.no(err)
}

// books reads what is kept of orders and of money.
func (s *planScenario) books(ids []seckill.OrderID) {
	s.Helper()
	ctx := s.Context()
	for _, state := range []seckill.PaymentState{seckill.PaymentStateDue, seckill.PaymentStateDone, seckill.PaymentStateEarly} {
		for _, merchant := range []seckill.MerchantID{"", "m1"} {
			_, err := s.store.Refunds(ctx, seckill.RefundQuery{State: state, Merchant: merchant, Limit: 10})
			s.no(err)
			_, err = s.store.RefundSums(ctx, state, merchant)
			s.no(err)
		}
	}
	_, err := s.store.FindPayments(ctx, "", "1")
	s.no(err)
	_, err = s.store.ApplyEarly(ctx, 10)
	s.no(err)
	_, err = s.store.OrderTrail(ctx, &seckill.Order{ID: ids[0], Item: s.item, Activity: s.id, Grant: seckill.Provenance{Shard: s.ref.Shard}})
	s.no(err)
	_, err = s.store.Statement(ctx, "m1", time.Now().Add(-time.Hour), time.Now())
	s.no(err)
	_, err = s.store.Recount(ctx, s.ref.Shard, false, s.by)
	s.no(err)
	_, err = s.store.FindActivity(ctx, s.id)
	s.no(err)
}

// clean drops an activity that is over. Another one may not be dropped.
func (s *planScenario) clean() {
	s.Helper()
	ctx, now := s.Context(), time.Now()
	for _, text := range []string{
		"UPDATE activities SET ends_at = now() - interval '1 day', archived_at = now() - interval '1 hour' WHERE id IN ('a-0', 'a-1')",
		"DELETE FROM outbox WHERE item IN (SELECT i.id FROM items AS i JOIN activities AS a USING (sale) WHERE a.id = 'a-1')",
		"UPDATE payments SET activity = '' WHERE activity = 'a-1'",
	} {
		if _, err := s.conn.Exec(ctx, text); err != nil {
			s.Fatalf("%s: %v", text, err)
		}
	}
	_, err := s.store.MayDrop(ctx, "a-0", now.Add(-48*time.Hour), now)
	s.no(err)
	dropped, err := s.store.DropEnded(ctx, now.Add(-48*time.Hour), now, 10)
	s.no(err)
	if !slices.Equal(dropped, []seckill.ActivityID{"a-1"}) {
		s.Fatalf("dropped: %v", dropped)
	}
}

// No statement of a sale may scan a growing table, sort everything that is due, or read another
// week's orders.
func TestPlans(t *testing.T) {
	heard := newListener()
	s := newPlanScenario(t, heard)
	s.fill(60_000)
	s.work()
	if len(heard.heard) < 80 {
		t.Errorf("only %d statements were heard", len(heard.heard))
	}
	var live string
	s.no(s.conn.QueryRow(t.Context(), "SELECT 'orders_' || week FROM activities WHERE id = $1", string(s.id)).Scan(&live))
	partition := regexp.MustCompile(`on orders_\d+`)
	everywhere := []string{
		due, toUnpark, byPending.count(), byOtherState.count(),
		byUser.text(), byRequest.text(), byCaller.text(), byActivity.text(), byPending.text(), byOtherState.text(),
		statementOrders, countedOrders, "DECLARE page NO SCROLL CURSOR FOR " + snapshotHolds,
	}
	for text, use := range heard.heard {
		verb, _, _ := strings.Cut(strings.TrimSpace(text), " ")
		if !slices.Contains([]string{"SELECT", "UPDATE", "DELETE", "WITH", "DECLARE"}, verb) || strings.Contains(text, "penstock_add") ||
			strings.Contains(text, "penstock_drop") || strings.Contains(text, "set_config") {
			continue
		}
		plan := s.explain(text, use)
		page := slices.Contains(everywhere, text) || strings.Contains(text, "FROM payments") && !strings.Contains(text, "to_char")
		aggregated := text == statementOrders || strings.Contains(text, snapshotHolds)
		if sorts.MatchString(plan) && !strings.Contains(plan, "One-Time Filter: false") && page && text != byRequest.text() && !aggregated {
			t.Errorf("a sort of all that is found: %s\n%s", text, plan)
		}
		for _, sub := range repeats.FindAllStringSubmatch(plan, -1) {
			if strings.Contains(plan, "hashed SubPlan") && sub[1] != "CTE Scan" {
				t.Errorf("a subquery runs again for each partition: %s\n%s", text, plan)
			}
		}
		switch {
		case slices.Contains(use.settings, inTableOrder):
			if strings.Contains(plan, "Index") {
				t.Errorf("a separate read for each order: %s\n%s", text, plan)
			}
		case slices.Contains(use.settings, byIndex) && readsAll(plan):
			t.Errorf("all of an index: %s\n%s", text, plan)
		case text == statementPayments && strings.Contains(plan, "payments_pkey"):
			t.Errorf("all payments of a merchant: %s\n%s", text, plan)
		case growing.MatchString(plan):
			t.Errorf("%s\n%s", text, plan)
		}
		for _, name := range partition.FindAllString(plan, -1) {
			if name != "on "+live && name != "on orders_0" && !slices.Contains(everywhere, text) && !strings.Contains(text, ended) {
				t.Errorf("%s looks at %s, the sale's is %s:\n%s", text, name, live, plan)
				break
			}
		}
	}
	s.searches(heard)
}

// searches checks that a search reads its own index, also if another one would fit a condition and
// has the orders in their order: the search would read all orders of that condition.
func (s *planScenario) searches(heard *listener) {
	s.Helper()
	read := regexp.MustCompile(`(?:Scan|Backward) (?:using|on) (orders_\d+_\w+)`)
	for text, index := range map[string]string{
		byUser.text(): "user_created_at_idx", byRequest.text(): "request_idx", byCaller.text(): "caller_created_at_idx",
		byActivity.text(): "activity_created_at_idx",
		byPending.text():  "created_at_idx", byOtherState.text(): "state_created_at_idx",
	} {
		own := regexp.MustCompile(`^orders_\d+_` + index + `$`)
		for _, state := range []seckill.OrderState{seckill.OrderPending, seckill.OrderPaid} {
			use := heard.heard[text]
			use.args = slices.Clone(use.args)
			copy(use.args[6:], []any{"u-1", "r", "app", "m1", string(s.id), "x", string(state)})
			plan := s.explain(text, use)
			for _, found := range read.FindAllStringSubmatch(plan, -1) {
				if !own.MatchString(found[1]) {
					s.Errorf("a search by %s for orders in state %s reads %s:\n%s", index, state, found[1], plan)
					break
				}
			}
		}
	}
}

// explain returns the plan of a statement with its arguments, under the settings of its latest use.
func (s *planScenario) explain(text string, use said) string {
	s.Helper()
	tx, err := s.conn.Begin(s.Context())
	s.no(err)
	defer func() { s.no(tx.Rollback(s.Context())) }()
	for _, setting := range use.settings {
		_, err := tx.Exec(s.Context(), setting)
		s.no(err)
	}
	rows, err := tx.Query(s.Context(), "EXPLAIN "+text, use.args...)
	if err != nil {
		s.Fatalf("%s: %v", text, err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.Fatalf("%s: %v", text, err)
	}
	return strings.Join(lines, "\n")
}

// rowCounter counts the rows that a store gets in batches.
type rowCounter struct {
	*listener
	rows atomic.Int64
}

func (c *rowCounter) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	c.rows.Add(data.CommandTag.RowsAffected())
}

// A search takes few orders from the server for any number of activities of a merchant (L8): it
// asks for none that is older than enough others.
func TestSearchOrders_TakesFewOrders(t *testing.T) {
	const activities, each, limit = 400, 60, 50
	counter := &rowCounter{listener: newListener()}
	s := newPlanScenario(t, counter)
	_, err := s.conn.Exec(t.Context(), `INSERT INTO orders SELECT 0, 'o-' || n, 1, 'm1', 'app', 'of-' || n / $2::int, 'x', 'u', 1, 100, 'CNY',
			'paid', '', 'sold', '2026-01-01'::timestamptz + n % $2::int * '1 s'::interval, now(), now(), NULL, 1, 1, 1, 0, 0, 'r-' || n, '', now()
		FROM generate_series(0, $1::int * $2::int - 1) AS n`, activities, each)
	s.no(err)
	counter.rows.Store(0)
	query := seckill.OrderQuery{Merchant: "m1", Limit: limit}
	for i := range activities {
		query.Activities = append(query.Activities, seckill.ActivityID(fmt.Sprint("of-", i)))
	}
	found, err := s.store.SearchOrders(t.Context(), query)
	s.no(err)
	newest := time.Date(2026, 1, 1, 0, 0, each-1, 0, time.UTC)
	if len(found) != limit || !found[limit-1].CreatedAt.Equal(newest) {
		t.Errorf("%d orders were found, the last of %v, want %d of %v", len(found), found[len(found)-1].CreatedAt, limit, newest)
	}
	if rows := counter.rows.Load(); rows > 2*activities+20*limit {
		t.Errorf("%d rows were read", rows)
	}
}
