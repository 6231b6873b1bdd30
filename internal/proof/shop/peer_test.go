package shop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/redis/rueidis"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/valyala/fasthttp"

	"github.com/penstock/penstock/internal/proof/stocktest"
)

// runPeer serves as a peer until the process is ended, and prints its address first.
func runPeer(name string) int {
	handler := bare
	if name == "plain" {
		p, err := newPlain(os.Getenv("PENSTOCK_SHOP_REDIS"), os.Getenv("PENSTOCK_SHOP_KAFKA"))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		handler = p.handle
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("http://" + listener.Addr().String())
	server := &fasthttp.Server{Handler: handler, Concurrency: 1 << 16, NoDefaultServerHeader: true}
	if err := server.Serve(listener); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const bareAnswer = `{"type":"/problems/sold-out","title":"Sold out","status":409,"detail":"Nothing is left of this item.",` +
	`"code":"sold-out","retryable":false}`

// bare answers with a refusal of penstock's size, and does nothing else.
func bare(ctx *fasthttp.RequestCtx) {
	ctx.SetStatusCode(fasthttp.StatusConflict)
	ctx.SetContentType("application/problem+json")
	ctx.SetBodyString(bareAnswer)
}

// plain is the gateway that one would write first, with the same libraries, on the same servers,
// for the same request. It makes one EVALSHA and one produce for each buyer (acks=all), and answers
// 202 when the record is acknowledged. Its script takes the unit, and keeps the buyer's limit and
// the idempotency key.
//
// It gets the easy optimizations: the client's pipeline for concurrent calls, a linger of 0. It
// leaves out nearly everything that makes a sale safe: epochs, detection of lost writes, doom,
// deadlines, bounded queues, refusals from memory, metrics.
type plain struct {
	redis  rueidis.Client
	kafka  *kgo.Client
	script *rueidis.Lua
}

const (
	plainTopic = "plain-orders"
	plainKey   = "Bearer plain-key"
	plainLimit = 1_000
)

func newPlain(redis, broker string) (*plain, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	p := &plain{script: rueidis.NewLuaScript(stocktest.PlainHold)}
	var err error
	if p.redis, err = rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{redis}, AlwaysPipelining: true, DisableCache: true,
	}); err != nil {
		return nil, err
	}
	if p.kafka, err = kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(plainTopic),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<15)); err != nil {
		return nil, err
	}
	if _, err := kadm.NewClient(p.kafka).CreateTopic(ctx, 8, 1, nil, plainTopic); err != nil {
		return nil, err
	}
	set := p.redis.B().Set().Key("plain:{1}:stock").Value("1000000000").Build()
	return p, p.redis.Do(ctx, set).Error()
}

// plainOrder is the body of a purchase, and with its key the record.
type plainOrder struct {
	Key      string `json:"key,omitempty"`
	Activity string `json:"activity"`
	SKU      string `json:"sku"`
	User     string `json:"user"`
	Quantity int    `json:"quantity"`
}

func (p *plain) handle(ctx *fasthttp.RequestCtx) {
	if string(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization)) != plainKey {
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
func (p *plain) sell(o *plainOrder) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	verdict, err := p.script.Exec(ctx, p.redis, []string{"plain:{1}:stock", "plain:{1}:buyers", "plain:{1}:keys"},
		[]string{o.Key, o.User, strconv.Itoa(o.Quantity), strconv.Itoa(plainLimit)}).AsInt64()
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
