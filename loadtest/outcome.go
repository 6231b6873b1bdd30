package loadtest

import (
	"errors"
	"net"

	"github.com/valyala/fasthttp"
)

// Action is the kind of a request.
type Action uint8

// The actions.
const (
	Buy Action = iota
	Pay
	Cancel
	Read    // read an order after the crowd has gone
	Poll    // read an order, by a buyer who waits for it
	Browse  // read the sale's page
	actions // the number of actions
)

// String returns the action's name.
func (a Action) String() string {
	return [...]string{"buy", "pay", "cancel", "read", "poll", "browse"}[a]
}

// Outcome is the meaning of an answer for the client.
type Outcome uint8

// The outcomes. Each request has exactly one.
const (
	Accepted      Outcome = iota // 201 or 202: this key has an order now
	Replayed                     // the same, and the server says that the key was used before
	Done                         // 200 to a payment, a cancellation or a read
	SoldOut                      // 409 sold-out
	PurchaseLimit                // 409 purchase-limit
	Refused                      // any other refusal: not started, ended, not cancellable, key reused, risk, no such order
	Limited                      // 429: a limit was hit, nothing happened
	Shed                         // 503 overloaded: nothing happened
	Degraded                     // 503 degraded: switched off or paused, nothing happened
	Unknown                      // 503 that names the order: it may have happened
	Failed                       // no answer, or one that a healthy server never gives to a valid request
	outcomes                     // the number of outcomes
)

// String returns the outcome's name, as reports write it.
func (o Outcome) String() string {
	return [...]string{
		"accepted", "replayed", "done", "sold-out", "purchase-limit", "refused", "limited", "shed", "degraded", "unknown", "error",
	}[o]
}

// Decided reports whether the outcome is a refusal that the same request will get again.
func (o Outcome) Decided() bool { return o == SoldOut || o == PurchaseLimit || o == Refused }

// Codes of requests that got no answer, or an unreadable one. They are used like the server's own
// codes.
const (
	codeTimeout    = "no-answer-in-time"
	codeConnection = "connection-failed"
	codeUnreadable = "unreadable-answer"
)

// classify returns the outcome of an answer. err is the transport's error; status and ans are used
// only without one.
func classify(action Action, status int, ans *answer, err error) (Outcome, string) {
	if err != nil {
		if timeout := net.Error(nil); errors.Is(err, fasthttp.ErrTimeout) || errors.As(err, &timeout) && timeout.Timeout() {
			return Failed, codeTimeout
		}
		return Failed, codeConnection
	}
	switch {
	case action != Buy && status == 200:
		return Done, "200"
	case action == Buy && (status == 201 || status == 202):
		if ans.order == "" {
			return Failed, codeUnreadable
		}
		if ans.replayed {
			return Replayed, statusCode(status)
		}
		return Accepted, statusCode(status)
	case ans.code == "":
		return Failed, statusCode(status)
	case status == 429:
		return Limited, ans.code
	case status == 503:
		return classifyUnavailable(ans), ans.code
	case status == 409, status == 422, status == 403 && ans.code == "risk-rejected", status == 404 && action != Buy:
		return classifyDecided(ans.code), ans.code
	default:
		return Failed, ans.code
	}
}

func classifyUnavailable(ans *answer) Outcome {
	switch {
	case ans.order != "":
		return Unknown
	case ans.code == "overloaded":
		return Shed
	case ans.code == "degraded":
		return Degraded
	default:
		return Failed
	}
}

func classifyDecided(code string) Outcome {
	switch code {
	case "sold-out":
		return SoldOut
	case "purchase-limit":
		return PurchaseLimit
	default:
		return Refused
	}
}

// statusCode names an answer without a code of its own. It doesn't allocate for frequent ones.
func statusCode(status int) string {
	switch status {
	case 200:
		return "200"
	case 201:
		return "201"
	case 202:
		return "202"
	}
	if status < 100 || status > 999 {
		return codeUnreadable
	}
	return string([]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)})
}
