package gateway

import (
	"net"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// Gate decides whether a request may go on, before any work is done for it. Admission implements it
// with switches, room and limits. Its methods are called by many goroutines at once and must not
// block.
type Gate interface {
	// Enter returns nil to let the visit in. A denial may be shared and is not changed. If Enter
	// sets v.Pause, the denial isn't final: Enter is called again after the pause, with v.Pause
	// unchanged, and the second answer is final.
	Enter(v *Visit) *Denial
	// Leave is called once for every admitted visit, when its answer is decided. status is the HTTP
	// status; took is the time since the arrival.
	Leave(v *Visit, status int, took time.Duration)
	// Stranger counts a request without a valid key or signature against its client address. Only
	// Route, Peer, Forwarded and Arrived of v are set. It returns a denial if the address asks too
	// often. The answer, with or without a denial, is sent after v.Pause.
	Stranger(v *Visit) *Denial
}

// Visit is a request that was understood and whose caller is known. Its strings may lie in memory
// that is only valid during the call.
type Visit struct {
	Route    string          // as in Stats: buy, order, cancel, pay, activity
	Caller   *seckill.Caller // nil for payments, which carry a signature instead of a key
	Activity seckill.ActivityID
	SKU      seckill.SKU     // of a purchase
	User     seckill.UserID  // of a purchase
	Quantity int             // of a purchase
	Key      string          // of a purchase
	Order    seckill.OrderID // of everything about an order
	Peer     net.Addr        // the connection's other end: behind a proxy, the proxy
	// Forwarded is the value of X-Forwarded-For, all of its fields joined by commas. It can be
	// trusted only if the peer is a trusted proxy.
	Forwarded string
	Arrived   time.Time
	Foreign   bool         // the activity isn't one of the caller's merchant
	Settled   bool         // the purchase is refused from memory, so it takes neither room nor tokens
	Repeat    bool         // it is known from memory that the purchase's key has an order
	Replayed  bool         // answered with an order that the key had before; set before Leave
	Ticket    uint64       // private to the gate, from Enter to Leave
	Request   string       // id of the request
	Code      problem.Code // code of the answer, "" for a success; set before Leave
	Limit     string       // the limit that refused; set before Leave
	// Pause is how long a denial waits before it is sent, see Gate.Enter.
	Pause time.Duration

	// The restrictions that the gate puts on an admitted visit. Zero values restrict nothing.

	NoWait bool // Prefer: wait is ignored
	Static bool // an activity's page may be served as it was last rendered, no matter how old
	// PollAfter is the number of seconds after which a client may ask again for a queued order; 0
	// means 1.
	PollAfter int
	// Closed, if set, is the answer to a purchase whose key has no order. A repeat whose key has
	// one still gets its order. ClosedSince is the time from which new orders are refused.
	Closed      *seckill.Refusal
	ClosedSince time.Time
	// Limited is set with Closed if a limit refused the purchase. It is the denial to send.
	Limited *Denial

	// Scratch memory of Admission, kept here to save allocations.
	asked   degrade.Visit
	request limiter.Request
	limited *limitRefusal // the limit's refusal
	assured bool          // it took a token of its merchant's guaranteed rate
}

// Denial is a gate's refusal. RateLimit and RateLimitPolicy are the values of the header fields of
// those names (as in draft-ietf-httpapi-ratelimit-headers), "" if no limit was hit.
type Denial struct {
	Problem         problem.Problem
	RateLimit       string
	RateLimitPolicy string
}

// openGate lets everybody in.
type openGate struct{}

func (openGate) Enter(*Visit) *Denial             { return nil }
func (openGate) Leave(*Visit, int, time.Duration) {}
func (openGate) Stranger(*Visit) *Denial          { return nil }
