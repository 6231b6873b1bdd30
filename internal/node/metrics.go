package node

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/penstock/penstock/gateway"
	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/internal/batch"
	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/timing"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill/backoffice"
)

// adminDeps gives the parts to the admin listener.
func (n *Node) adminDeps() admin.Deps {
	memory := n.stockMemory
	if n.servers.embedded != nil {
		memory = nil
	}
	return admin.Deps{
		Office: n.sale.Office, Store: n.servers.database, Settings: n.control.publisher, Refresh: n.sale.Desk.Refresh,
		Catalog: n.sale.Desk.Catalog, Secrets: n.vault, Health: n.health, Queue: n.lookAtQueue, Log: n.servers.queue,
		Limits: &n.control.reports, Webhooks: n.control.webhooks, Level: n.control.switches.Level,
		Live: n.live.hub, Memory: memory,
		Metrics: []func() []admin.Sample{
			n.edgeMetrics, n.deskMetrics, n.backOfficeMetrics, n.queueMetrics, n.eventMetrics, n.stockMetrics, n.controlMetrics,
			n.breakers.metrics, n.databaseMetrics, n.healthMetrics, n.symptomMetrics, n.moneyMetrics, n.webhookMetrics, n.liveMetrics,
			n.totals.metrics, n.probeMetrics, n.objectiveMetrics, n.traceMetrics,
		},
	}
}

// stockMemory asks the stock's servers how much memory they use.
func (n *Node) stockMemory(ctx context.Context) ([]admin.StockMemory, error) {
	servers, err := n.servers.stock.Memory(ctx)
	out := make([]admin.StockMemory, 0, len(servers))
	for _, s := range servers {
		out = append(out, admin.StockMemory(s))
	}
	return out, err
}

func counter(name, help string, value int64, labels ...admin.Label) admin.Sample {
	return admin.Sample{Name: name, Help: help, Kind: admin.Counter, Value: float64(value), Labels: labels}
}

func gauge(name, help string, value int64, labels ...admin.Label) admin.Sample {
	return admin.Sample{Name: name, Help: help, Kind: admin.Gauge, Value: float64(value), Labels: labels}
}

func gaugeFloat(name, help string, value float64, labels ...admin.Label) admin.Sample {
	return admin.Sample{Name: name, Help: help, Kind: admin.Gauge, Value: value, Labels: labels}
}

// same is the help text that marks a gauge whose value is the same in all processes.
const same = " All processes report the same value: take max(), don't add them up."

func seconds(name, help string, d time.Duration) admin.Sample {
	return gaugeFloat(name, help, d.Seconds())
}

// observedShard is a shard's levels at the last reading.
type observedShard struct {
	levels inventory.Numbers
	known  bool
}

// observations are values for which servers must be asked. They are stored, so that a scrape
// doesn't wait.
type observations struct {
	mu      sync.Mutex
	shards  map[inventory.ShardID]observedShard // guarded by mu
	lag     int64                               // records that no worker has committed; -1 if unknown; guarded by mu
	looked  bool                                // lag and waiting were read; guarded by mu
	waiting time.Duration                       // how long the oldest step of an order has waited; negative if unknown; guarded by mu
	money   *observedMoney                      // nil if unknown; guarded by mu

	announcing timing.Histogram // at each look, the age of the oldest waiting step of an order
}

// shard records a shard's numbers.
func (o *observations) shard(id inventory.ShardID, levels inventory.Numbers, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.shards == nil {
		o.shards = make(map[inventory.ShardID]observedShard)
	}
	o.shards[id] = observedShard{levels, err == nil}
}

// observeEvery is how often lags are read. Money is read at one in moneyLooks of these looks.
const (
	observeEvery = time.Second
	moneyLooks   = 5
)

// observe reads lags until ctx ends.
func (n *Node) observe(ctx context.Context) {
	tick := wait.NewTicker(observeEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		n.observeOnce(ctx)
		if i%moneyLooks == 0 {
			n.lookAtMoney(ctx)
		}
		if !tick.Wait(ctx) {
			return
		}
	}
}

func (n *Node) observeOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Sale.StoreTimeout)
	defer cancel()
	lag, err := n.servers.queue.Lag(ctx)
	if err != nil {
		lag = -1
	}
	waiting := time.Duration(-1)
	if n.sale.Events != nil {
		if w, err := n.servers.database.EventsWaiting(ctx); err == nil {
			waiting = w
			n.observed.announcing.Observe(w)
		}
	}
	o := n.observed
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lag, o.waiting, o.looked = lag, waiting, true
}

func (n *Node) lookAtMoney(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Sale.StoreTimeout)
	defer cancel()
	money := n.observeMoney(ctx)
	n.observed.mu.Lock()
	defer n.observed.mu.Unlock()
	n.observed.money = money
}

// edgeMetrics are the public listener's metrics: its answers, their times, and the use of its
// limits.
func (n *Node) edgeMetrics() []admin.Sample {
	if n.gateway == nil {
		return nil
	}
	s := n.gateway.Stats()
	out := []admin.Sample{
		gauge("penstock_http_in_flight_requests", "Requests being worked on.", s.InFlight),
		gauge("penstock_http_in_flight_limit", "Requests that may be worked on at once.", s.MaxInFlight),
		gauge("penstock_http_waiting_requests", "Requests that wait because of Prefer: wait.", s.Waiting),
		gauge("penstock_http_waiting_limit", "Requests that may wait at once.", s.MaxWaiting),
		gauge("penstock_http_paused_requests", "Requests whose refusal is delayed; meanwhile they are not in flight.", s.Paused),
		gauge("penstock_http_connections", "Open connections.", s.Connections),
		gauge("penstock_http_connections_limit", "Connections that may be open.", s.MaxConns),
		counter("penstock_http_refused_connections_total",
			"Connections that were closed because too many were open, in total or from their address.", int64(s.RejectedConns)),
		counter("penstock_http_accept_pauses_total", "Failed accepts after which the listener waited.", int64(s.AcceptPauses)),
		counter("penstock_http_panics_total", "Requests whose handler panicked.", int64(s.Panics)),
		counter("penstock_http_log_left_out_total", "Log messages that were left out by the rate limit.", int64(s.LogLeftOut)),
	}
	for _, r := range s.Routes {
		route := admin.Label{Name: "route", Value: r.Route}
		for _, a := range r.Answers {
			out = append(out, counter("penstock_http_requests_total", "Answers by route, status and problem code.", int64(a.Count), route,
				admin.Label{Name: "status", Value: strconv.Itoa(a.Status)}, admin.Label{Name: "code", Value: a.Code}))
		}
		for i := range r.Classes {
			if c := &r.Classes[i]; c.Latency.Sum > 0 {
				out = append(out, latencySample(c, route, admin.Label{Name: "outcome", Value: c.Class}))
			}
		}
	}
	return out
}

// latencySample is the histogram of one class of answers.
func latencySample(c *gateway.ClassStats, labels ...admin.Label) admin.Sample {
	h := admin.Histogram{Bounds: make([]float64, len(c.Latency.Bounds)), Counts: c.Latency.Counts, Sum: c.Latency.Sum.Seconds()}
	for i, b := range c.Latency.Bounds {
		h.Bounds[i] = b.Seconds()
	}
	for i := range c.Exemplars {
		e := &c.Exemplars[i]
		h.Exemplars = append(h.Exemplars, admin.Exemplar{
			Value: e.Took.Seconds(), At: e.At, Labels: []admin.Label{{Name: "request_id", Value: e.RequestID()}},
		})
	}
	return admin.Sample{
		Name: "penstock_http_request_duration_seconds",
		Help: "Time from a request's arrival until its answer was decided, by route and outcome: ok, refused (4xx) or failed (5xx).",
		Kind: admin.HistogramKind, Labels: labels, Histogram: h,
	}
}

// deskMetrics are the desk's metrics: purchases, the lines in front of the stock, and its batches.
func (n *Node) deskMetrics() []admin.Sample {
	desk := n.sale.Desk.Counts()
	out := []admin.Sample{
		counter("penstock_orders_accepted_total", "Purchases answered 201 or 202 for the first time.", desk.Accepted.Load()),
		counter("penstock_orders_replayed_total", "Repeats of a key that were answered with its order.", desk.Replayed.Load()),
		counter("penstock_orders_unknown_total", "Requests answered with an unknown outcome.", desk.Unknown.Load()),
		counter("penstock_orders_late_total", "Purchases acknowledged after the accept deadline.", desk.Late.Load()),
		counter("penstock_orders_refused_full_total",
			"Purchases refused because the memory of their shard's Redis is nearly used up.", desk.Full.Load()),
		counter("penstock_catalog_misses_total", "Names that were not found in a catalog that could not be refreshed.", desk.Stale.Load()),
		gauge("penstock_catalog_version", "Version of the catalog in force.", n.sale.Desk.Catalog().Version.Number),
	}
	for lane, l := range n.sale.Desk.Lines() {
		label := admin.Label{Name: "lane", Value: strconv.Itoa(lane)}
		out = append(out,
			gauge("penstock_line_waiting_purchases", "Purchases that wait for a round. A lane is a node of the Redis.", int64(l.Waiting), label),
			gauge("penstock_line_limit", "Purchases that may wait.", int64(n.cfg.Sale.Queue), label),
			counter("penstock_line_rounds_total", "Rounds: writes that carried the holds of a lane's shards.", int64(l.Rounds), label),
			counter("penstock_line_purchases_total", "Purchases in these rounds.", int64(l.Taken), label),
			counter("penstock_line_expired_total", "Purchases that left the line because they had waited for too long.", int64(l.Expired), label),
			counter("penstock_line_refused_total", "Purchases refused because the line was full.", int64(l.Refused), label))
	}
	for name, s := range n.sale.Desk.Queues() {
		out = append(out, batchMetrics(name, s)...)
	}
	return out
}

// backOfficeMetrics are the metrics of the background work.
func (n *Node) backOfficeMetrics() []admin.Sample {
	s := n.sale
	if s.Worker == nil {
		return nil
	}
	work, swept, barrier := s.Worker.Counts(), s.Sweeper.Counts(), s.Barrier.Counts()
	delivered, refused := s.Relay.Delivered()
	confirmed, dropped := s.Teller.Counts()
	rebuilding, loaded := s.Rebuilder.Progress()
	out := []admin.Sample{
		counter("penstock_worker_batches_total", "Batches the workers committed.", work.Batches.Load()),
		counter("penstock_worker_pages_total", "Pages in these batches.", work.Pages.Load()),
		counter("penstock_worker_retries_total", "Transactions of the workers that failed and were tried again.", work.Retries.Load()),
		counter("penstock_worker_rewinds_total", "Times that the books had another position than the worker.", work.Rewinds.Load()),
		gauge("penstock_worker_stuck_partitions", "Partitions that stand still at a record of an unknown version.", work.Stuck.Load()),
		counter("penstock_dead_letters_total", "Damaged pages that became dead letters.", work.Letters.Load()),
		counter("penstock_orders_timed_out_total", "Orders cancelled because they were not paid in time.", s.Timeouts.Cancelled()),
		counter("penstock_payments_applied_total", "Payments that came before their order had a row, and were applied.", s.Timeouts.Applied()),
		counter("penstock_outbox_delivered_total", "Outbox rows that the stock has taken.", delivered),
		counter("penstock_outbox_refused_total", "Attempts to deliver an outbox row that the stock refused.", refused),
		counter("penstock_holds_confirmed_total", "Holds that were confirmed to the stock after their orders were made.", confirmed),
		counter("penstock_holds_left_total", "Holds that were left to the sweeper to confirm, because too many waited.", dropped),
		counter("penstock_sweep_confirmed_total", "Old holds whose order existed.", swept.Confirmed.Load()),
		counter("penstock_sweep_settled_total", "Old holds whose order had ended.", swept.Settled.Load()),
		counter("penstock_sweep_buried_total", "Old holds that never became an order.", swept.Buried.Load()),
		counter("penstock_barriers_passed_total", "Barriers that were passed.", barrier.Passed.Load()),
		counter("penstock_barriers_failed_total", "Barriers that were not passed in time, and were written again.", barrier.Failed.Load()),
		counter("penstock_rebuilds_total", "Rebuilds that opened a shard.", s.Rebuilder.Rebuilt()),
		gauge("penstock_rebuilding_shards", "Shards that this process rebuilds.", int64(rebuilding)),
		gauge("penstock_rebuilding_loaded_holds", "Holds that these rebuilds have loaded.", loaded),
		counter("penstock_units_moved_total", "Units moved between the shards of spread items.", s.Mover.Moved()),
		gauge("penstock_owned_shards", "Shards on which this process works.", int64(len(s.Owner.Shards()))),
	}
	for outcome, count := range map[string]int64{
		"opened": work.Opened.Load(), "exists": work.Exists.Load(), "rejected": work.Rejected.Load(),
		"skipped": work.Skipped.Load(), "parked": work.Parked.Load(),
	} {
		out = append(out, counter("penstock_worker_promises_total", "Promises by their outcome.", count,
			admin.Label{Name: "outcome", Value: outcome}))
	}
	return out
}

// batchMetrics are the metrics of a natural batch.
func batchMetrics(name string, s batch.Stats) []admin.Sample {
	label := admin.Label{Name: "batch", Value: name}
	return []admin.Sample{
		gauge("penstock_batch_queued", "Items waiting for a call.", int64(s.Queued), label),
		gauge("penstock_batch_in_flight", "Items in a call.", int64(s.InFlight), label),
		counter("penstock_batch_calls_total", "Calls made.", int64(s.Batches), label),
		counter("penstock_batch_items_total", "Items in those calls.", int64(s.Items), label),
		counter("penstock_batch_refused_total", "Items refused because the queue was full.", int64(s.Refused), label),
	}
}

// databaseMetrics returns the metrics of the connections to PostgreSQL.
func (n *Node) databaseMetrics() []admin.Sample {
	if !n.cfg.Real() { // the embedded database has no connections
		return nil
	}
	s := n.servers.database.stats()
	return []admin.Sample{
		gauge("penstock_database_connections", "Open connections to PostgreSQL.", int64(s.Connections)),
		gauge("penstock_database_connections_in_use", "Connections to PostgreSQL that are in use.", int64(s.InUse)),
		gauge("penstock_database_connections_limit", "Connections to PostgreSQL that may be open.", int64(s.MaxConnections)),
		counter("penstock_database_waits_total", "Calls that waited for a connection to PostgreSQL.", s.Waits),
		counter("penstock_database_retries_total", "PostgreSQL transactions that had to be repeated.", int64(s.Retries)),
	}
}

// queueMetrics are the queue's metrics. A lag that the broker doesn't say is left out, because
// unknown is not zero.
func (n *Node) queueMetrics() []admin.Sample {
	s := n.servers.queue.Stats()
	out := []admin.Sample{
		counter("penstock_queue_missing_total", "Records that no longer existed when they should be read: a law is broken.", s.Missing),
		counter("penstock_queue_data_loss_total", "Other signs that the broker lost acknowledged records: a law is broken.", s.DataLoss),
		gauge("penstock_queue_in_flight_records", "Records on their way to the broker.", s.InFlight),
		gauge("penstock_queue_in_flight_bytes", "Bytes of the records on their way.", s.Bytes),
		counter("penstock_queue_acknowledged_total", "Records acknowledged.", s.Acked),
		counter("penstock_queue_failed_total", "Records whose acknowledgement did not come.", s.Failed),
	}
	if n.role&RoleGateway != 0 {
		out = append(out,
			gauge("penstock_queue_slots", "Slots of the buffer before the queue.", int64(s.Slots)),
			gauge("penstock_queue_slots_taken", "Slots that are taken.", s.Reserved),
			counter("penstock_queue_slots_refused_total", "Purchases refused because no slot was free.", s.Refused),
			counter("penstock_queue_promises_total", "Promises in the pages acknowledged.", s.Promises),
			counter("penstock_queue_rerouted_total", "Pages that went to a partition other than the preferred one of their shard.", s.Rerouted),
			counter("penstock_queue_splits_total", "Times that one partition delayed the others, so that each got its own client.", s.Splits))
	}
	if n.role&RoleWorker != 0 {
		out = append(out,
			counter("penstock_queue_markers_total", "Markers of barriers acknowledged.", s.Markers),
			counter("penstock_queue_polled_total", "Records polled.", s.Polled),
			counter("penstock_queue_committed_total", "Records committed.", s.Committed),
			counter("penstock_queue_poll_errors_total", "Polls that failed.", s.PollErrors))
	}
	n.observed.mu.Lock()
	lag := n.observed.lag
	n.observed.mu.Unlock()
	if lag >= 0 {
		out = append(out, gauge("penstock_queue_lag_records", "Accepted records that no worker has committed."+same, lag))
	}
	if n.role&RoleWorker != 0 {
		var age time.Duration
		if !s.Oldest.IsZero() {
			age = max(0, time.Since(s.Oldest))
		}
		out = append(out, seconds("penstock_queue_oldest_record_age_seconds",
			"Age of the oldest record that this worker has taken and not committed, on its producer's clock.", age))
	}
	return out
}

// eventMetrics are the metrics of the events for other systems.
func (n *Node) eventMetrics() []admin.Sample {
	var out []admin.Sample
	add := func(stream string, counts *backoffice.AnnounceCounts) {
		label := admin.Label{Name: "stream", Value: stream}
		out = append(out,
			counter("penstock_events_announced_total", "Events published for other systems.", counts.Announced.Load(), label),
			counter("penstock_events_failed_total", "Announcements that failed and are repeated.", counts.Failed.Load(), label))
	}
	if n.sale.Herald != nil {
		add("stock-status", n.sale.Herald.Counts())
	}
	if n.sale.Events == nil {
		return out
	}
	add("order-events", n.sale.Events.Counts())
	n.observed.mu.Lock()
	defer n.observed.mu.Unlock()
	if n.observed.waiting >= 0 {
		out = append(out, seconds("penstock_order_events_waiting_seconds",
			"How long the oldest unpublished step of an order has waited."+same, n.observed.waiting))
	}
	return out
}

// stockMetrics are the metrics of the stock, and of the shards as they were last read. A shard that
// could not be read is left out, because unknown is not zero.
func (n *Node) stockMetrics() []admin.Sample {
	s := n.servers.stock.Stats()
	out := []admin.Sample{
		gauge("penstock_stock_watched_shards", "Shards that this process follows.", int64(s.Watched)),
		gauge("penstock_stock_blind_shards", "Shards without refusals from memory, because there are too many names.", int64(s.Blind)),
		gauge("penstock_stock_known_names", "Names of holds that this process remembers.", s.Known),
		gauge("penstock_stock_known_names_limit", "Names that it may remember.", int64(n.cfg.MaxKnown)),
		counter("penstock_stock_claims_total", "Holds asked for.", int64(s.Claims)),
		counter("penstock_stock_calls_total", "Calls of shards that asked for holds.", int64(s.Calls)),
		counter("penstock_stock_finds_total", "Holds looked for.", int64(s.Finds)),
		counter("penstock_stock_finds_refused_total", "Look-ups of holds that were refused because too many waited.", int64(s.Full)),
		counter("penstock_stock_lost_total", "Answers that showed lost writes.", int64(s.Lost)),
		counter("penstock_stock_missed_events_total", "Callbacks that were left out because too many waited.", int64(s.MissedEvents)),
		counter("penstock_stock_sync_errors_total", "Failed reads of the shards that are followed.", int64(s.SyncErrors)),
	}
	for _, server := range n.servers.stock.Servers() {
		if !server.Primary || server.Used == 0 {
			continue
		}
		label := admin.Label{Name: "server", Value: server.Addr}
		out = append(out,
			gauge("penstock_redis_memory_bytes", "Memory that a primary of the Redis uses."+same, server.Used, label),
			gauge("penstock_redis_memory_limit_bytes",
				"Its maxmemory; 0 means as much as the machine has. Above 90 % of it, new purchases are refused."+same, server.Max, label))
	}
	n.observed.mu.Lock()
	defer n.observed.mu.Unlock()
	for id, shard := range n.observed.shards {
		if !shard.known {
			continue
		}
		label := admin.Label{Name: "shard", Value: strconv.Itoa(int(id))}
		out = append(out,
			gauge("penstock_shard_items", "Items that are on the shard.", shard.levels.Items, label),
			gauge("penstock_shard_names", "Heads of names that the shard remembers.", shard.levels.Names, label),
			gauge("penstock_shard_fresh_units", "Units of holds that nobody has confirmed yet.", shard.levels.Fresh, label))
	}
	return out
}

// healthMetrics are the states of servers and shards.
func (n *Node) healthMetrics() []admin.Sample {
	r := n.health.report.Load()
	var out []admin.Sample
	for state, count := range map[string]int{"open": r.Shards.Open, "closed": r.Shards.Closed, "rebuilding": r.Shards.Rebuilding} {
		out = append(out, gauge("penstock_shards", "Shards by their state."+same, int64(count), admin.Label{Name: "state", Value: state}))
	}
	sick := map[string]int64{"redis": 0, "kafka": 0, "database": 0, "catalog": 0, "settings": 0}
	for i := range r.Servers {
		if r.Servers[i].State != serverOK {
			sick[r.Servers[i].Server]++
		}
	}
	for server, count := range sick {
		out = append(out, gauge("penstock_server_problems", "Servers, and parts of servers, that can't be reached or are degraded.", count,
			admin.Label{Name: "server", Value: server}))
	}
	return out
}

// symptomMetrics counts what this process alone can see, by the alarm that it raises.
func (n *Node) symptomMetrics() (out []admin.Sample) {
	counts := make(map[string]int64)
	if seen := n.live.symptoms.Load(); seen != nil {
		for i := range *seen {
			counts[(*seen)[i].Kind]++
		}
	}
	for _, kind := range live.SymptomKinds() {
		out = append(out, gauge("penstock_symptoms", "Abnormal things that this process alone sees, by the alarm that they raise.", counts[kind],
			admin.Label{Name: "alarm", Value: kind}))
	}
	return out
}
