package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/valyala/fasthttp"

	"penstock/internal/proof/stocktest"
)

// plainGateway is what penstock is measured beside: the gateway that one would write first, with the same libraries, on the same
// servers, for the same request. It makes one EVALSHA and one produce for each buyer (acks=all), and answers 202 when the record is
// acknowledged. Its script takes the unit, and keeps the buyer's limit and the idempotency key.
//
// It is given what costs it nothing to have: the client's pipeline for concurrent calls, a linger of 0, one pooled struct for each
// request. It leaves out nearly all that makes a sale safe: epochs, lost writes, doom, deadlines, limits of what waits, refusals
// from memory, metrics.
type plainGateway struct {
	redis   rueidis.Client
	kafka   *kgo.Client
	script  *rueidis.Lua
	bearer  string
	server  *fasthttp.Server
	serving sync.WaitGroup
	url     string
}

const plainTopic = "plain-orders"

// startPlainGateway serves an item with so many units.
func startPlainGateway(b *testing.B, redis, broker, bearer string, units int) *plainGateway {
	b.Helper()
	p := &plainGateway{bearer: bearer, script: rueidis.NewLuaScript(stocktest.PlainHold)}
	var err error
	if p.redis, err = rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{redis}, AlwaysPipelining: true, DisableCache: true,
	}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.redis.Close)
	if p.kafka, err = kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(plainTopic),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<15)); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.kafka.Close)
	// As many partitions as penstock's topic has.
	if _, err := kadm.NewClient(p.kafka).CreateTopic(b.Context(), 12, 1, nil, plainTopic); err != nil {
		b.Fatal(err)
	}
	set := p.redis.B().Set().Key("plain:{1}:stock").Value(strconv.Itoa(units)).Build()
	if err := p.redis.Do(b.Context(), set).Error(); err != nil {
		b.Fatal(err)
	}
	p.server = &fasthttp.Server{Handler: p.handle, Concurrency: 1 << 16, NoDefaultServerHeader: true}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	p.url = "http://" + listener.Addr().String()
	p.serving.Go(func() {
		if err := p.server.Serve(listener); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(func() {
		if err := p.server.Shutdown(); err != nil {
			b.Error(err)
		}
		p.serving.Wait()
	})
	return p
}

// plainOrder is the body of a purchase, and with its key the record.
type plainOrder struct {
	Key      string `json:"key,omitempty"`
	Activity string `json:"activity"`
	SKU      string `json:"sku"`
	User     string `json:"user"`
	Quantity int    `json:"quantity"`
}

func (p *plainGateway) handle(ctx *fasthttp.RequestCtx) {
	if string(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization)) != p.bearer {
		ctx.Error(`{"code":"unauthenticated"}`, fasthttp.StatusUnauthorized)
		return
	}
	var o plainOrder
	if err := json.Unmarshal(ctx.Request.Body(), &o); err != nil || o.User == "" || o.Quantity < 1 {
		ctx.Error(`{"code":"invalid-request"}`, fasthttp.StatusBadRequest)
		return
	}
	o.Key = string(ctx.Request.Header.Peek("Idempotency-Key"))
	switch err := p.sell(&o); {
	case errors.Is(err, errPlainRefused):
		ctx.Error(`{"code":"sold-out"}`, fasthttp.StatusConflict)
	case err != nil:
		ctx.Error(`{"code":"unavailable"}`, fasthttp.StatusServiceUnavailable)
	default:
		ctx.SetStatusCode(fasthttp.StatusAccepted)
		ctx.SetContentType("application/json")
		ctx.SetBodyString(`{"order":"` + o.Key + `","status":"queued"}`)
	}
}

var errPlainRefused = errors.New("sold out or over the limit")

// sell takes the units and keeps the promise.
func (p *plainGateway) sell(o *plainOrder) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	verdict, err := p.script.Exec(ctx, p.redis, []string{"plain:{1}:stock", "plain:{1}:buyers", "plain:{1}:keys"},
		[]string{o.Key, o.User, strconv.Itoa(o.Quantity), strconv.Itoa(demoPerUser)}).AsInt64()
	if err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	if verdict < 1 {
		return errPlainRefused
	}
	value, err := json.Marshal(o)
	if err != nil {
		return err
	}
	acknowledged := make(chan error, 1)
	p.kafka.Produce(ctx, &kgo.Record{Key: []byte(o.Key), Value: value}, func(_ *kgo.Record, err error) { acknowledged <- err })
	return <-acknowledged
}
