package gateway

import (
	"net"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// Gate decides whether a request may go on, before any work is done for it: switches, shedding and
// limits stand behind it. Its methods are called by many goroutines at once and must not block.
type Gate interface {
	// Enter returns nil to let the visit in. A denial may be shared and is not changed. With
	// v.Pause set it is no denial yet: Enter is called again after the pause, with v.Pause as it
	// is, and that answer stands.
	Enter(v *Visit) *Denial
	// Leave is called once for every visit that was let in, when its answer is decided, with the
	// answer's status.
	Leave(v *Visit, status int, took time.Duration)
	// Stranger is told of a request without a good key or signature: of v only Route, Peer,
	// Forwarded and Arrived are set. It counts against its address. The answer is given after
	// v.Pause: what it is anyway, or the denial where the address asks too often.
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
	// Forwarded is what X-Forwarded-For says, all of its fields with commas between: anybody's
	// word, unless the peer is trusted.
	Forwarded string
	Arrived   time.Time
	Foreign   bool         // a page of an activity that isn't known as the caller's merchant's
	Settled   bool         // a purchase that memory refuses: it needs neither a place nor a share of a limit
	Repeat    bool         // a purchase whose key has an order, as memory knows
	Replayed  bool         // it was answered with the order that its key had; set before Leave
	Ticket    uint64       // the gate's own, from Enter to Leave
	Request   string       // id of the request
	Code      problem.Code // of the answer, "" of a success; set before Leave
	Limit     string       // that has refused; set before Leave
	// Pause is how long a denial has to wait before it is given, see Gate.Enter.
	Pause time.Duration

	// What the gate grants to a visit that it lets in; their zero values take nothing away.

	NoWait bool // Prefer: wait is not honoured
	Static bool // an activity's page may be as it was rendered last, however long ago
	// PollAfter is after how many seconds a queued order may be asked for again; 0 is 1.
	PollAfter int
	// Closed, if there is one, is the answer to a purchase whose key has no order, and ClosedSince
	// is since when: so that a gate that takes no new orders doesn't stand between a repeat and its
	// order.
	Closed      *seckill.Refusal
	ClosedSince time.Time
	// Limited is how Closed is answered where a limit has closed it.
	Limited *Denial

	// What an Admission asks. They are here because a visit has its memory already.
	asked   degrade.Visit
	request limiter.Request
	limited *limitRefusal // what a limit has said
	assured bool          // it has a token of its merchant's guaranteed rate
}

// Denial is a gate's no. RateLimit and RateLimitPolicy are the values of the header fields of those
// names (as in draft-ietf-httpapi-ratelimit-headers), "" where no limit was hit.
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
