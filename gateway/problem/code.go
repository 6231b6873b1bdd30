package problem

import "github.com/penstock/penstock/seckill"

// Code is a public code. It is the last part of the problem's type, /problems/{code}.
type Code = seckill.Code

// The codes of package seckill.
const (
	UnknownActivity   = seckill.CodeUnknownActivity
	UnknownMerchant   = seckill.CodeUnknownMerchant
	UnknownItem       = seckill.CodeUnknownItem
	UnknownOrder      = seckill.CodeUnknownOrder
	NotStarted        = seckill.CodeNotStarted
	Ended             = seckill.CodeEnded
	SoldOut           = seckill.CodeSoldOut
	PurchaseLimit     = seckill.CodePurchaseLimit
	KeyReused         = seckill.CodeKeyReused
	NotCancellable    = seckill.CodeNotCancellable
	AmountMismatch    = seckill.CodeAmountMismatch
	Forbidden         = seckill.CodeForbidden
	Degraded          = seckill.CodePaused
	Busy              = seckill.CodeBusy
	Overloaded        = seckill.CodeOverloaded
	Unavailable       = seckill.CodeUnavailable
	InvalidSignature  = seckill.CodeInvalidSignature
	ActivityState     = seckill.CodeActivityState
	NotEditable       = seckill.CodeNotEditable
	InsufficientStock = seckill.CodeInsufficientStock
	UnknownPayment    = seckill.CodeUnknownPayment
	RefundSettled     = seckill.CodeRefundSettled
	NotRefundable     = seckill.CodeNotRefundable
	RefundAmount      = seckill.CodeRefundAmount
)

// The codes of HTTP, of the limits and of the risk policy.
const (
	InvalidRequest       Code = "invalid-request"
	Unauthenticated      Code = "unauthenticated"
	RiskRejected         Code = "risk-rejected"
	NotFound             Code = "not-found"
	MethodNotAllowed     Code = "method-not-allowed"
	RequestTimeout       Code = "request-timeout"
	TooLarge             Code = "too-large"
	UnsupportedMediaType Code = "unsupported-media-type"
	RateLimited          Code = "rate-limited"
	ExpectationFailed    Code = "expectation-failed"
	HeaderTooLarge       Code = "header-too-large"
	VersionNotSupported  Code = "version-not-supported"
	Internal             Code = "internal"
)

// The codes of the admin listener alone. Those about activities, stock and refunds are package
// seckill's.
const (
	UnknownCaller        Code = "unknown-caller"
	UnknownSwitch        Code = "unknown-switch"
	UnknownNode          Code = "unknown-node"
	UnknownChange        Code = "unknown-change"
	UnknownDeadLetter    Code = "unknown-dead-letter"
	UnknownToken         Code = "unknown-token"
	UnknownKey           Code = "unknown-key"
	UnknownWebhook       Code = "unknown-webhook"
	AlreadyExists        Code = "already-exists"
	NotRevertible        Code = "not-revertible"
	CrossOrigin          Code = "cross-origin"
	PreconditionRequired Code = "precondition-required"
	PreconditionFailed   Code = "precondition-failed"
)
