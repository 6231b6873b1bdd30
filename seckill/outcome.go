package seckill

import (
	"fmt"
	"time"
)

// Code is a public refusal or failure code. gateway/problem maps each to HTTP.
type Code string

// The codes this package answers.
const (
	CodeUnknownActivity  Code = "unknown-activity"
	CodeUnknownMerchant  Code = "unknown-merchant"
	CodeUnknownItem      Code = "unknown-item"
	CodeUnknownOrder     Code = "unknown-order"
	CodeNotStarted       Code = "not-started"
	CodeEnded            Code = "ended"
	CodePaused           Code = "degraded" // a paused activity sells again later: 503, not a verdict on the buyer
	CodeSoldOut          Code = "sold-out"
	CodePurchaseLimit    Code = "purchase-limit"
	CodeKeyReused        Code = "idempotency-key-reused"
	CodeNotCancellable   Code = "not-cancellable"
	CodeAmountMismatch   Code = "amount-mismatch"
	CodeForbidden        Code = "forbidden"
	CodeBusy             Code = "busy" // units are being moved between the shards of an item
	CodeOverloaded       Code = "overloaded"
	CodeUnavailable      Code = "unavailable"
	CodeInvalidSignature Code = "invalid-signature"

	CodeActivityState     Code = "activity-state"     // the activity's state doesn't allow this
	CodeNotEditable       Code = "not-editable"       // a published activity keeps its items
	CodeInsufficientStock Code = "insufficient-stock" // fewer units are available than should be taken back
	CodeUnknownPayment    Code = "unknown-payment"
	CodeRefundSettled     Code = "refund-settled" // the money went back before
	CodeNotRefundable     Code = "not-refundable" // no refund of the payment is due
	CodeRefundAmount      Code = "refund-amount"  // another amount is due
)

// Refusal is a decision against a request, with a public reason. This system never retries it, and
// breakers don't count it as a failure. Values are shared and must not be changed.
type Refusal struct {
	Code       Code
	Detail     string        // for a person; "" uses the code's own text
	StartsAt   time.Time     // set for not-started
	RetryAfter time.Duration // 0: a retry doesn't help
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.Detail == "" {
		return string(r.Code)
	}
	return string(r.Code) + ": " + r.Detail
}

// Failure means that nothing happened: the same request may be sent again.
type Failure struct {
	Code       Code // CodeUnavailable or CodeOverloaded
	RetryAfter time.Duration
	Err        error // for the log, never for the public
}

// Error implements error.
func (f *Failure) Error() string { return fmt.Sprintf("%s: %v", f.Code, f.Err) }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Unknown means that the outcome is unknown. Order is the id to ask for; only the same key may be
// sent again.
type Unknown struct {
	Order      OrderID
	RetryAfter time.Duration
	Err        error // for the log, never for the public
}

// Error implements error.
func (u *Unknown) Error() string { return fmt.Sprintf("order %s: outcome unknown: %v", u.Order, u.Err) }

// Unwrap returns the cause.
func (u *Unknown) Unwrap() error { return u.Err }
