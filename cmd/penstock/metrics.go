package main

import (
	"context"
	"strconv"
	"time"

	"penstock/gateway/admin"
	"penstock/internal/batch"
	"penstock/internal/postgres"
)

// adminConfig returns the admin listener's configuration.
func (p *Process) adminConfig() admin.Config {
	config := admin.DefaultConfig()
	config.Token, config.OpenMetrics = p.cfg.AdminToken, p.cfg.OpenMetrics
	return config
}

// adminDeps hands the parts to the admin listener.
func (p *Process) adminDeps() admin.Deps {
	return admin.Deps{
		Office: p.office, Store: p.store, Settings: p.publisher, Refresh: p.desk.Refresh, Ready: p.unready,
		Metrics: []func() []admin.Sample{
			p.edgeMetrics, p.saleMetrics, p.queueMetrics, p.lagMetrics, p.eventMetrics, p.stockMetrics, p.controlMetrics,
			p.breakers.metrics, p.databaseMetrics,
		},
	}
}

func counter(name, help string, value int64, labels ...admin.Label) admin.Sample {
	return admin.Sample{Name: name, Help: help, Kind: admin.Counter, Value: float64(value), Labels: labels}
}

func gauge(name, help string, value int64, labels ...admin.Label) admin.Sample {
	return admin.Sample{Name: name, Help: help, Kind: admin.Gauge, Value: float64(value), Labels: labels}
}

// edgeMetrics are the public listener's: what was answered, how fast, and how full its limits are.
func (p *Process) edgeMetrics() []admin.Sample {
	if p.gateway == nil {
		return nil
	}
	s := p.gateway.Stats()
	out := []admin.Sample{
		gauge("penstock_http_in_flight_requests", "Requests being worked on.", s.InFlight),
		gauge("penstock_http_in_flight_limit", "Requests that may be worked on at once.", s.MaxInFlight),
		gauge("penstock_http_waiting_requests", "Requests in a Prefer: wait.", s.Waiting),
		gauge("penstock_http_waiting_limit", "Requests that may wait at once.", s.MaxWaiting),
		gauge("penstock_http_paused_requests", "Requests whose refusal waits for its turn, not in flight meanwhile.", s.Paused),
		gauge("penstock_http_connections", "Open connections.", s.Connections),
		gauge("penstock_http_connections_limit", "Connections that may be open.", s.MaxConns),
		counter("penstock_http_rejected_connections_total",
			"Connections closed because too many were open, in all or of their address.", int64(s.RejectedConns)),
		counter("penstock_http_accept_pauses_total", "Failed accepts that were waited out.", int64(s.AcceptPauses)),
		counter("penstock_http_panics_total", "Requests whose handler panicked.", int64(s.Panics)),
		counter("penstock_http_log_left_out_total", "Log messages that were left out by the rate limit.", int64(s.LogLeftOut)),
	}
	for _, r := range s.Routes {
		route := admin.Label{Name: "route", Value: r.Route}
		for _, a := range r.Answers {
			out = append(out, counter("penstock_http_requests_total", "Answers by route, status and problem code.", int64(a.Count), route,
				admin.Label{Name: "status", Value: strconv.Itoa(a.Status)}, admin.Label{Name: "code", Value: a.Code}))
		}
		bounds := make([]float64, len(r.Latency.Bounds))
		for i, b := range r.Latency.Bounds {
			bounds[i] = b.Seconds()
		}
		out = append(out, admin.Sample{
			Name: "penstock_http_request_duration_seconds", Help: "Time from a request's arrival until its answer was decided.",
			Kind: admin.HistogramKind, Labels: []admin.Label{route},
			Histogram: admin.Histogram{Bounds: bounds, Counts: r.Latency.Counts, Sum: r.Latency.Sum.Seconds()},
		})
	}
	return out
}

// saleMetrics are the desk's and the back office's.
func (p *Process) saleMetrics() []admin.Sample {
	desk, work, swept := p.desk.Counts(), p.worker.Counts(), p.sweeper.Counts()
	delivered, refused := p.relay.Delivered()
	out := []admin.Sample{
		counter("penstock_orders_accepted_total", "Purchases answered 201 or 202 for the first time.", desk.Accepted.Load()),
		counter("penstock_orders_replayed_total", "Repeats of a key that were answered with its order.", desk.Replayed.Load()),
		counter("penstock_orders_unknown_total", "Requests answered with an unknown outcome.", desk.Unknown.Load()),
		counter("penstock_orders_late_total", "Purchases acknowledged after the accept deadline.", desk.Late.Load()),
		counter("penstock_catalog_misses_total", "Look-ups that found nothing in a catalog that could not be refreshed.", desk.Stale.Load()),
		counter("penstock_worker_batches_total", "Batches the workers committed.", work.Batches.Load()),
		counter("penstock_worker_retries_total", "Steps of the workers that failed and were tried again.", work.Retries.Load()),
		counter("penstock_orders_timed_out_total", "Orders cancelled because they were not paid in time.", p.timeouts.Cancelled()),
		counter("penstock_outbox_delivered_total", "Outbox rows the stock has taken.", delivered),
		counter("penstock_outbox_refused_total", "Tries to deliver an outbox row that the stock refused.", refused),
		counter("penstock_sweep_confirmed_total", "Old holds whose order existed.", swept.Confirmed.Load()),
		counter("penstock_sweep_buried_total", "Old holds that never became an order.", swept.Buried.Load()),
		counter("penstock_rebuilds_total", "Rebuilds that opened an item.", p.rebuilder.Rebuilt()),
		gauge("penstock_catalog_version", "Version of the catalog in force.", p.desk.Catalog().Version),
		gauge("penstock_unready", "Dependencies and items that are not ready.", int64(len(p.unready()))),
	}
	for outcome, n := range map[string]int64{
		"opened": work.Opened.Load(), "exists": work.Exists.Load(), "rejected": work.Rejected.Load(),
		"skipped": work.Skipped.Load(), "dead": work.Dead.Load(),
	} {
		out = append(out, counter("penstock_worker_records_total", "Records by what became of them.", n,
			admin.Label{Name: "outcome", Value: outcome}))
	}
	for name, s := range p.desk.Queues() {
		out = append(out, batchMetrics(name, s)...)
	}
	return out
}

// batchMetrics are a natural batch's.
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

// databaseMetrics are those of the connections to PostgreSQL.
func (p *Process) databaseMetrics() []admin.Sample {
	var s postgres.Stats // the embedded database has none
	if store, ok := p.store.(*postgres.Store); ok {
		s = store.Stats()
	}
	return []admin.Sample{
		gauge("penstock_database_connections", "Open connections to PostgreSQL; 0 with the embedded database.", int64(s.Connections)),
		gauge("penstock_database_connections_in_use", "Connections to PostgreSQL that are in use.", int64(s.InUse)),
		gauge("penstock_database_connections_limit", "Connections to PostgreSQL that may be open.", int64(s.MaxConnections)),
		counter("penstock_database_waits_total", "Calls that waited for a connection to PostgreSQL.", s.Waits),
		counter("penstock_database_retries_total", "Transactions that PostgreSQL had to be asked for again.", int64(s.Retries)),
	}
}

// queueMetrics are the queue's.
func (p *Process) queueMetrics() []admin.Sample {
	s := p.queue.Stats()
	return []admin.Sample{
		gauge("penstock_queue_slots", "Slots of the buffer in front of the queue.", int64(s.Slots)),
		gauge("penstock_queue_slots_taken", "Slots that are taken.", s.Reserved),
		counter("penstock_queue_slots_refused_total", "Purchases refused because no slot was free.", s.Refused),
		counter("penstock_queue_acknowledged_total", "Records acknowledged.", s.Acked),
		counter("penstock_queue_failed_total", "Records whose acknowledgement did not come.", s.Failed),
		counter("penstock_queue_polled_total", "Records polled.", s.Polled),
		counter("penstock_queue_committed_total", "Records committed.", s.Committed),
		counter("penstock_queue_poll_errors_total", "Polls that failed.", s.PollErrors),
		counter("penstock_queue_missing_total", "Records that were gone when their turn came: a law is broken.", s.Missing),
		counter("penstock_queue_data_loss_total", "Other signs that the broker lost acknowledged records: a law is broken.", s.DataLoss),
	}
}

// scrapeTimeout bounds what a scrape asks of the stock.
const scrapeTimeout = time.Second

// stockMetrics are the units of every live item, as its shard has them. A shard that can't be read is left out: unknown is
// not zero.
func (p *Process) stockMetrics() []admin.Sample {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var out []admin.Sample
	for _, ref := range p.desk.Live() {
		offer := p.desk.Catalog().Offer(ref.Item)
		levels, err := p.stock.Levels(ctx, ref.Item)
		if err != nil || offer == nil {
			continue
		}
		for state, units := range map[string]int64{"available": levels.Available, "held": levels.Held, "sold": levels.Sold} {
			out = append(out, gauge("penstock_stock_units", "Units of an item by state.", units,
				admin.Label{Name: "activity", Value: string(offer.Sale.ID)}, admin.Label{Name: "sku", Value: string(offer.SKU)},
				admin.Label{Name: "state", Value: state}))
		}
	}
	return out
}
