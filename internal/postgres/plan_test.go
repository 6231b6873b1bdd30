package postgres

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"penstock/internal/proof/servers"
	"penstock/inventory"
	"penstock/seckill"
)

// listener notes every statement that a store sends, with the arguments that it was sent with last.
type listener struct {
	mu    sync.Mutex
	heard map[string][]any
}

func (l *listener) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	l.note(data.SQL, data.Args)
	return ctx
}

func (l *listener) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (l *listener) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, q := range data.Batch.QueuedQueries {
		l.note(q.SQL, q.Arguments)
	}
	return ctx
}

func (l *listener) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (l *listener) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func (l *listener) note(text string, args []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard[text] = args
}

// growing are the tables that grow with the sale, or for ever; orders are by their partitions.
var growing = regexp.MustCompile(`Seq Scan on (orders\w*|payments|stock_changes|withdrawal_tombstones|changes|dead_letters|outbox|order_events)\b`)

// planScenario is a sale of a store, as large as a plan needs to go wrong, beside others that have ended.
type planScenario struct {
	*testing.T
	store *Store
	conn  *pgx.Conn
	ref   inventory.Ref
	id    seckill.ActivityID
}

func newPlanScenario(t *testing.T, heard *listener) *planScenario {
	t.Helper()
	url := servers.Postgres(t)
	store, err := Open(t.Context(), Config{URL: url, Events: true, tracer: heard})
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
	s := &planScenario{T: t, store: store, conn: conn, id: "a-live"}
	by := seckill.Author{Actor: "ann", Reason: "a test"}
	s.no(store.PutMerchant(t.Context(), seckill.Merchant{ID: "m1", Name: "Phones", PaymentSecret: "x"}, by))
	for i := range 12 { // others, which were dropped or will be
		s.sell(seckill.ActivityID(fmt.Sprint("a-", i)), by)
	}
	s.sell(s.id, by)
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

func (s *planScenario) sell(id seckill.ActivityID, by seckill.Author) {
	s.Helper()
	item := seckill.Item{SKU: "x", Price: seckill.Money{Minor: 100, Currency: "CNY"}, Quantity: seckill.MaxItemQuantity, PerUser: 2}
	a, err := s.store.UpdateActivity(s.Context(), id, by, func(*seckill.Activity) (*seckill.Activity, error) {
		return &seckill.Activity{ID: id, Merchant: "m1", Name: "Sale", State: seckill.ActivityPublished, StartsAt: time.Now(),
			EndsAt: time.Now().Add(time.Hour), PaymentWindow: time.Hour, Items: []seckill.Item{item}}, nil
	})
	s.no(err)
	s.ref = inventory.Ref{Item: a.Items[0].ID, Epoch: 1}
	_, err = s.store.Fence(s.Context(), s.ref)
	s.no(err)
}

// fill adds rows behind the store's back. Nothing is analyzed: nobody does in the first minute of a sale.
func (s *planScenario) fill(rows int) {
	s.Helper()
	for _, text := range []string{
		`INSERT INTO orders (sale, id, item, merchant, caller, activity, sku, "user", quantity, amount, currency, state, reason, units,
			created_at, pay_by, updated_at, shard, epoch, seq)
			SELECT i.sale, md5(n::text), i.id, 'm1', 'app', 'a-live', 'x', 'f-' || n, 1, 100, 'CNY', 'pending_payment', '', 'open',
				now(), now() + '1 hour', now(), 0, 1, 1
			FROM generate_series(1, $1::int) AS n, items AS i WHERE i.sale = (SELECT max(sale) FROM items)`,
		"INSERT INTO payments SELECT 'm1', md5(n::text), '', 1, 'CNY', false, now() FROM generate_series(1, $1::int) AS n",
		"INSERT INTO outbox (item, kind, stock, name, buyer, quantity) SELECT 1, 'void', false, n, '', 1 FROM generate_series(1, $1::int) AS n",
		"INSERT INTO order_events (sale, order_id, state, reason, at) SELECT max, n, '', '', now() FROM generate_series(1, $1::int) AS n, (SELECT max(sale) FROM items) AS max",
		"INSERT INTO dead_letters (\"partition\", \"offset\", at, problem, value) SELECT 0, n, now(), '', '' FROM generate_series(1, $1::int) AS n",
		"INSERT INTO changes (at, actor, reason, kind, key, \"before\", \"after\") SELECT now(), '', '', '', '', '', '' FROM generate_series(1, $1::int) AS n",
		"INSERT INTO stock_changes SELECT 1, n, 1, 'h' || n, now() FROM generate_series(1, $1::int) AS n",
		"INSERT INTO withdrawal_tombstones SELECT 1, n, 1, now() FROM generate_series(1, $1::int) AS n",
	} {
		if _, err := s.conn.Exec(s.Context(), text, rows); err != nil {
			s.Fatalf("%s: %v", text, err)
		}
	}
}

// work asks the store for everything that a sale asks for, in batches.
func (s *planScenario) work() {
	s.Helper()
	ctx, caller := s.Context(), seckill.CallerRef{Merchant: "m1", Caller: "app"}
	by := seckill.Author{Actor: "ann", Reason: "a test"}
	var records []seckill.Record
	var ids []seckill.OrderID
	var payments []seckill.Payment
	for i := range 300 {
		user, key := seckill.UserID(fmt.Sprint("u-", i)), fmt.Sprint(i)
		r := seckill.Record{Order: seckill.NewOrderID(s.ref.Item, caller, s.id, "x", user, key), Caller: caller, Activity: s.id, SKU: "x",
			User: user, Quantity: 1, Amount: seckill.Money{Minor: 100, Currency: "CNY"}, Grant: seckill.Provenance{Epoch: 1}}
		records, ids = append(records, r), append(ids, r.Order)
		payments = append(payments, seckill.Payment{Merchant: "m1", ID: seckill.PaymentID(key), Order: r.Order, Amount: r.Amount})
	}
	_, err := s.store.Accept(ctx, records)
	s.no(err)
	_, err = s.store.FindOrders(ctx, ids)
	s.no(err)
	_, err = s.store.Pay(ctx, payments[:100])
	s.no(err)
	_, err = s.store.Cancel(ctx, ids[:200])
	s.no(err)
	if _, err := s.conn.Exec(ctx, "UPDATE orders SET pay_by = now() - interval '1 s' WHERE id = ANY($1)", []string{string(ids[250]), string(ids[251])}); err != nil {
		s.Fatal(err)
	}
	_, err = s.store.TimeOut(ctx, 100)
	s.no(err)
	lost := inventory.Hold{ID: seckill.NewWithdrawalID(s.ref.Item, "lost"), Quantity: 1}
	_, err = s.store.Bury(ctx, s.ref, []inventory.Hold{records[0].Hold(), {ID: "buried", Buyer: "b", Quantity: 1}, lost})
	s.no(err)
	_, err = s.store.Relay(ctx, 0, 100, func(context.Context, []seckill.Outgoing) []int { return []int{0} })
	s.no(err)
	_, err = s.store.RelayEvents(ctx, 100, func(context.Context, []seckill.Order) error { return nil })
	s.no(err)
	_, err = s.store.EventsWaiting(ctx)
	s.no(err)
	_, _, err = s.store.Restock(ctx, seckill.StockChange{Item: s.ref.Item, Key: "r", Delta: 1}, by)
	s.no(err)
	c := seckill.StockChange{Item: s.ref.Item, Key: "w", Delta: -1}
	_, _, err = s.store.Withdraw(ctx, s.ref, seckill.NewWithdrawalID(s.ref.Item, "w"), c, by)
	s.no(err)
	_, _, err = s.store.FindStockChange(ctx, s.ref.Item, "w")
	s.no(err, s.store.MarkSuspect(ctx, s.ref))
	_, err = s.store.Fence(ctx, inventory.Ref{Item: s.ref.Item, Epoch: 2})
	s.no(err)
	_, err = s.store.LoadCatalog(ctx, 0)
	s.no(err)
	_, err = s.store.Changes(ctx, 0, 10)
	s.no(err)
	_, err = s.store.FindChange(ctx, 1)
	s.no(err, s.store.AddDeadLetters(ctx, []seckill.DeadLetter{{Partition: 7, Value: []byte{1}}}))
	_, err = s.store.DeadLetters(ctx, 0, 10)
	s.no(err)
	_, err = s.store.DropDeadLetters(ctx, []int64{1, 2}, by)
	s.no(err)
	_, err = s.store.Books(ctx, s.id)
	s.no(err)
}

// None of the statements of a sale may walk through a table that grows, sort it, or look at another sale's orders.
func TestPlans(t *testing.T) {
	heard := &listener{heard: make(map[string][]any)}
	s := newPlanScenario(t, heard)
	s.fill(60_000)
	s.work()
	if len(heard.heard) < 50 {
		t.Errorf("only %d statements were heard", len(heard.heard))
	}
	var live string
	s.no(s.conn.QueryRow(t.Context(), "SELECT 'orders_' || max(sale) FROM activities").Scan(&live))
	partition := regexp.MustCompile(`on orders_\d+`)
	for text, args := range heard.heard {
		verb, _, _ := strings.Cut(strings.TrimSpace(text), " ")
		if verb != "SELECT" && verb != "UPDATE" && verb != "DELETE" && verb != "WITH" || strings.Contains(text, "pg_advisory") {
			continue
		}
		plan := s.explain(text, args)
		if found := growing.FindString(plan); found != "" && text != books { // an audit adds the outbox up
			t.Errorf("%s\n%s", text, plan)
		}
		if strings.Contains(plan, "Sort Key: orders.pay_by") {
			t.Errorf("a sort of all that is due: %s\n%s", text, plan)
		}
		for _, name := range partition.FindAllString(plan, -1) {
			if name != "on "+live {
				t.Errorf("%s looks at %s, the sale's is %s:\n%s", text, name, live, plan)
				break
			}
		}
	}
}

// explain returns the plan of a statement with its arguments.
func (s *planScenario) explain(text string, args []any) string {
	s.Helper()
	var lines []string
	err := pgx.BeginFunc(s.Context(), s.conn, func(tx pgx.Tx) error {
		if strings.Contains(text, dueOrder) {
			if _, err := tx.Exec(s.Context(), planDue); err != nil {
				return err
			}
		}
		rows, err := tx.Query(s.Context(), "EXPLAIN "+text, args...)
		if err != nil {
			return err
		}
		lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		s.Fatalf("%s: %v", text, err)
	}
	return strings.Join(lines, "\n")
}
