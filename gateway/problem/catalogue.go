package problem

import "time"

// Entry is the catalogue's entry for a code.
type Entry struct {
	Code      Code
	Status    int           // of HTTP
	Title     string        // short, the same in every answer
	Retryable bool          // the very same request, with the same key, may succeed later
	Retry     time.Duration // how long to wait if the answer sets no time itself; 0: no Retry-After
	Admin     bool          // only the admin listener answers it
	Detail    string        // for a person, when the answer has nothing more precise to say
	Client    string        // what a client program should do
	Ops       string        // what an operator should look at

	head []byte // the body with Detail, without its closing brace
}

// Lookup returns the entry of a code.
func Lookup(code Code) (*Entry, bool) {
	e, ok := byCode[code]
	return e, ok
}

// Entries returns the catalogue in the order of its index page. The slice is the caller's; the
// entries are shared and must not be changed.
func Entries() []*Entry {
	out := make([]*Entry, len(entries))
	for i := range entries {
		out[i] = byCode[entries[i].Code]
	}
	return out
}

// entryOf returns the entry of a code. A code without an entry gets that of Internal, so that an
// answer is always possible.
func entryOf(code Code) *Entry {
	if e, ok := byCode[code]; ok {
		return e
	}
	return byCode[Internal]
}

// byCode indexes entries and is never changed.
var byCode = index(entries[:])

func index(all []Entry) map[Code]*Entry {
	m := make(map[Code]*Entry, len(all))
	for i := range all {
		e := all[i]
		e.head = appendHead(nil, &e, e.Detail)
		m[e.Code] = &e
	}
	return m
}

// oneSecond is the wait of answers that set no time themselves. Overload and outages are over, or
// known, within seconds. The jitter that the server adds keeps clients from coming back in one
// wave.
const oneSecond = time.Second

// entries is the catalogue, in the order of its index page: by status.
var entries = [...]Entry{
	{
		Code: InvalidRequest, Status: 400, Title: "The request is not valid",
		Detail: "Something in the request is missing or has a value it can't have.",
		Client: "Read errors: it names every field or header that is wrong, and what it must be. Correct them; sending the same " +
			"request again gives the same answer.",
		Ops: "Many of these from one caller mean a broken or outdated client. Nothing was taken.",
	},
	{
		Code: Unauthenticated, Status: 401, Title: "A valid key is needed",
		Detail: "The request has no caller key, or one that isn't known here.",
		Client: "Send the header Authorization: Bearer <caller key>. A key that used to work was revoked or has expired: detail says " +
			"which. With a newer key of the same caller, the same orders and idempotency keys are valid.",
		Ops: "\"penstock ctl callers keys find\" says whose key it is and why it isn't valid. A new key is known on every node " +
			"within a second.",
	},
	{
		Code: InvalidSignature, Status: 401, Title: "The signature is not valid",
		Detail: "The Penstock-Signature header is missing, malformed, too old, or doesn't match the body.",
		Client: "Sign the exact bytes of the body: v1 is the lower-case hex HMAC-SHA256 of \"<t>.<body>\" with the merchant's payment secret, " +
			"t the current Unix time in seconds. Sign anew for every attempt: a signature is refused when it is older than 300 seconds.",
		Ops: "Compare the payment secret with the provider's, and both clocks. Until it works, paid orders stay unpaid here.",
	},
	{
		Code: Forbidden, Status: 403, Title: "The key doesn't have this right",
		Detail: "The key is known, but isn't allowed to do this.",
		Client: "Use a key with the right that this needs. Repeating doesn't help.",
		Ops:    "Compare the caller's rights, or the token's role, with what was asked.",
	},
	{
		Code: RiskRejected, Status: 403, Title: "Refused by the risk policy",
		Detail: "The purchase was refused by the risk policy.",
		Client: "Show the buyer that the purchase isn't possible. Repeating doesn't help.",
		Ops:    "The merchant's risk policy decided this. Nothing was taken.",
	},
	{
		Code: CrossOrigin, Status: 403, Title: "The request came from another site", Admin: true,
		Detail: "A page of another origin sent this request with the console's session.",
		Client: "Programs must use a bearer token instead of the session cookie.",
		Ops:    "If the console is behind a proxy, the proxy must keep the Host header. Otherwise somebody tried to use an operator's session.",
	},
	{
		Code: NotFound, Status: 404, Title: "There is nothing here",
		Detail: "No resource has this path.",
		Client: "Compare the path with /openapi.yaml.",
		Ops:    "Usually a wrong base path in a client or in a proxy.",
	},
	{
		Code: UnknownActivity, Status: 404, Title: "The activity is unknown",
		Detail: "There is no such activity, or it isn't published yet, or it belongs to another merchant.",
		Client: "Check the activity's name and which merchant's key is used.",
		Ops:    "A draft is invisible until it is published.",
	},
	{
		Code: UnknownItem, Status: 404, Title: "The item is unknown",
		Detail: "The activity has no item with this SKU.",
		Client: "Read the activity: it lists its items.",
		Ops:    "Compare the SKU with the activity's items.",
	},
	{
		Code: UnknownOrder, Status: 404, Title: "The order is unknown",
		Detail: "This caller has no order with this id.",
		Client: "After an answer with an unknown outcome this means that nothing was ever taken: the purchase may be sent again " +
			"with the same key. Otherwise check the id and whose key is used.",
		Ops: "Orders of other callers read as unknown.",
	},
	{
		Code: UnknownPayment, Status: 404, Title: "The payment is unknown", Admin: true,
		Detail: "There is no payment with this id.", Client: "Check the id, and the merchant.",
		Ops: "List the refunds, or search orders by payment.",
	},
	{
		Code: UnknownMerchant, Status: 404, Title: "The merchant is unknown", Admin: true,
		Detail: "There is no merchant with this name.", Client: "Create the merchant first.", Ops: "Check the name.",
	},
	{
		Code: UnknownCaller, Status: 404, Title: "The caller is unknown", Admin: true,
		Detail: "The merchant has no caller with this name.", Client: "Add the caller first.", Ops: "Check both names.",
	},
	{
		Code: UnknownSwitch, Status: 404, Title: "The switch is unknown", Admin: true,
		Detail: "There is no switch with this name.", Client: "List the switches.", Ops: "Check the name.",
	},
	{
		Code: UnknownNode, Status: 404, Title: "The node is unknown", Admin: true,
		Detail: "There is no node with this name.", Client: "List the nodes.",
		Ops: "Check the name; a node that was stopped cleanly is removed from the list.",
	},
	{
		Code: UnknownChange, Status: 404, Title: "The change is unknown", Admin: true,
		Detail: "There is no change with this number.", Client: "List the changes.", Ops: "Check the number.",
	},
	{
		Code: UnknownDeadLetter, Status: 404, Title: "The dead letter is unknown", Admin: true,
		Detail: "There is no dead letter with this id.", Client: "List the dead letters.",
		Ops: "Somebody else may have replayed or discarded it: the list of changes says who.",
	},
	{
		Code: UnknownWebhook, Status: 404, Title: "The webhook is unknown", Admin: true,
		Detail: "There is no webhook with this name.", Client: "List the webhooks.", Ops: "Check the name.",
	},
	{
		Code: UnknownToken, Status: 404, Title: "The token is unknown", Admin: true,
		Detail: "There is no admin token with this name.", Client: "List the tokens.", Ops: "Check the name.",
	},
	{
		Code: UnknownKey, Status: 404, Title: "The caller key is unknown", Admin: true,
		Detail: "There is no caller key like this.", Client: "List the caller's keys.",
		Ops: "The key was made on another installation, or it ended so long ago that it was deleted.",
	},
	{
		Code: MethodNotAllowed, Status: 405, Title: "The method isn't allowed here",
		Detail: "This path doesn't take this method.",
		Client: "The Allow header lists the methods that this path takes.",
		Ops:    "Usually a client that follows an outdated description.",
	},
	{
		Code: RequestTimeout, Status: 408, Title: "The request came too slowly", Retryable: true,
		Detail: "The request didn't arrive completely in time.",
		Client: "Send it again on a new connection. Nothing was done.",
		Ops:    "Many of these mean a bad network, a stalled proxy, or somebody who holds connections open on purpose.",
	},
	{
		Code: NotStarted, Status: 409, Title: "The sale hasn't started", Retryable: true, Retry: oneSecond,
		Detail: "The sale starts at starts_at, by the server's clock.",
		Client: "Wait for Retry-After, then send the purchase. The activity shows the server's time, for a countdown.",
		Ops:    "Expected before a sale. A flood of these means clients that don't wait.",
	},
	{
		Code: Ended, Status: 409, Title: "The sale has ended",
		Detail: "The sale is over.",
		Client: "Show the buyer that the sale is over. Repeating doesn't help.",
		Ops:    "Expected after a sale, or after an activity was ended by hand.",
	},
	{
		Code: SoldOut, Status: 409, Title: "Sold out",
		Detail: "Fewer units of this item are available now than were asked for.",
		Client: "Show the buyer that the item is sold out. Units of unpaid orders may come back: the activity shows it as soon as they do.",
		Ops:    "Expected. The audit shows where every unit is.",
	},
	{
		Code: PurchaseLimit, Status: 409, Title: "The buyer's limit is reached",
		Detail: "The buyer would have more units of this item than one buyer may have, or has made as many orders of it as one buyer may.",
		Client: "Show the buyer the limit: it is per_user in the activity. Open and paid orders count. " +
			"For the number of orders, cancelled ones count, too.",
		Ops: "Expected. The limits are the item's per_user and max_orders.",
	},
	{
		Code: NotCancellable, Status: 409, Title: "The order can't be cancelled",
		Detail: "Only an order that waits for its payment can be cancelled.",
		Client: "Read the order: it is queued, paid or already over.",
		Ops:    "To give a paid order back, refund it.",
	},
	{
		Code: AmountMismatch, Status: 409, Title: "The amount doesn't match the order",
		Detail: "The paid amount or currency isn't the order's. The order was not changed; the payment is kept as money to refund.",
		Client: "Compare amount and currency with the order, in minor units. A notice that was wrong may be sent again under the " +
			"same id with the right amount. The same notice gets the same answer. Another wrong amount gets it, too, and changes nothing of what " +
			"was kept of the first.",
		Ops: "The payment is among the refunds, with the cause wrong-amount: settle it with the provider, then mark it done.",
	},
	{
		Code: RefundSettled, Status: 409, Title: "The money went back already", Admin: true,
		Detail: "This refund was completed before.",
		Client: "Do not send the money again. The detail has the time and the reference.", Ops: "The list of changes says who completed it.",
	},
	{
		Code: NotRefundable, Status: 409, Title: "Nothing is due", Admin: true,
		Detail: "No money of this payment has to be refunded.",
		Client: "Read the order: it says what happened to each payment.", Ops: "A payment that paid its order is no refund.",
	},
	{
		Code: RefundAmount, Status: 409, Title: "Another amount is due", Admin: true,
		Detail: "The amount isn't the one that has to be refunded.",
		Client: "Leave amount out, or send the amount and currency of the refund.", Ops: "Compare with the provider: nothing was changed.",
	},
	{
		Code: ActivityState, Status: 409, Title: "The activity's state doesn't allow this", Admin: true,
		Detail: "An activity goes from draft to published, may be paused and resumed, and ends once.",
		Client: "Read the activity's state first.", Ops: "The list of changes says who changed it last.",
	},
	{
		Code: NotEditable, Status: 409, Title: "This can't be edited any more", Admin: true,
		Detail: "A published activity keeps its merchant, its items and their prices.",
		Client: "Change stock with a restock; make a new activity for other items.", Ops: "Pause or end the activity if it must not sell.",
	},
	{
		Code: InsufficientStock, Status: 409, Title: "Less is available than that", Admin: true,
		Detail: "More units were to be taken back than are available.",
		Client: "Take back at most what the audit shows as available. Held units come back when their orders end unpaid.",
		Ops:    "Nothing was taken back.",
	},
	{
		Code: AlreadyExists, Status: 409, Title: "The name is taken", Admin: true,
		Detail: "Something with this name exists, or existed.",
		Client: "Choose another name.", Ops: "A revoked caller keeps its name, so that its orders remain its own.",
	},
	{
		Code: NotRevertible, Status: 409, Title: "This change can't be reverted", Admin: true,
		Detail: "The change can't be taken back by itself, or something else was changed on top of it.",
		Client: "Read the current value and change that.", Ops: "The list of changes says what came later.",
	},
	{
		Code: PreconditionFailed, Status: 412, Title: "Somebody else was first", Admin: true,
		Detail: "The version in If-Match is not the current one: another change came first.",
		Client: "Read again, apply the change to what is there now, and send it with the new ETag.",
		Ops:    "The list of changes says who changed it.",
	},
	{
		Code: TooLarge, Status: 413, Title: "The body is too large",
		Detail: "The body is larger than this listener takes.",
		Client: "Send a smaller body; one purchase is a few hundred bytes.",
		Ops:    "The limit is the listener's maximal body.",
	},
	{
		Code: UnsupportedMediaType, Status: 415, Title: "The content type isn't supported",
		Detail: "The body must be application/json in UTF-8, without a content encoding.",
		Client: "Send Content-Type: application/json. With curl: -H 'Content-Type: application/json'.",
		Ops:    "Usually a client's default content type.",
	},
	{
		Code: ExpectationFailed, Status: 417, Title: "The expectation can't be met",
		Detail: "The Expect field asks for something that isn't known here.",
		Client: "Send Expect: 100-continue, or no Expect field.",
		Ops:    "An unusual HTTP client, or a proxy that adds the field. Nothing was taken.",
	},
	{
		Code: KeyReused, Status: 422, Title: "The idempotency key was used for something else",
		Detail: "The same idempotency key came before with another content.",
		Client: "Use a new key for a new purchase, and the same key with the same content for a repeat.",
		Ops:    "A client that makes keys which aren't unique. Nothing was taken.",
	},
	{
		Code: PreconditionRequired, Status: 428, Title: "If-Match is needed", Admin: true,
		Detail: "This change must say which version it was made on.",
		Client: "Read first, and send the ETag of that answer as If-Match.", Ops: "It keeps two people from overwriting each other.",
	},
	{
		Code: RateLimited, Status: 429, Title: "Too many requests", Retryable: true, Retry: oneSecond,
		Detail: "A limit of this caller or buyer is reached.",
		Client: "Wait for Retry-After, then repeat with the same key. RateLimit-Policy names the limit.",
		Ops:    "Raise the limit that limit names if the traffic is wanted. Nothing was taken.",
	},
	{
		Code: HeaderTooLarge, Status: 431, Title: "The header is too large",
		Detail: "The request line and header fields together are larger than this listener takes.",
		Client: "Send fewer and shorter header fields; cookies aren't needed here.",
		Ops:    "A proxy in front may add long fields. The limit is the listener's read buffer.",
	},
	{
		Code: Internal, Status: 500, Title: "Something is broken on our side", Retryable: true,
		Detail: "The request met a fault of the server.",
		Client: "Repeat later with the same key, and report the X-Request-Id if this happens again.",
		Ops:    "A bug. The log has the cause, under the same request id, unless the log's rate limit left it out.",
	},
	{
		Code: Degraded, Status: 503, Title: "Switched off for now", Retryable: true, Retry: 5 * oneSecond,
		Detail: "This is switched off or paused at the moment.",
		Client: "Wait for Retry-After, then repeat with the same key.",
		Ops:    "A switch, a degrade level or a paused activity is the reason: the console shows which one, since when and by whom.",
	},
	{
		Code: Busy, Status: 503, Title: "Units are being moved", Retryable: true, Retry: oneSecond,
		Detail: "No units are left for this buyer at the moment, but some are left elsewhere and are being moved. Nothing was done.",
		Client: "Wait for Retry-After, then repeat with the same key. The answer is sold-out when no units are left at all.",
		Ops: "The item is spread over several shards and is nearly sold out. When this lasts, look whether the workers run: " +
			"they move the units.",
	},
	{
		Code: Overloaded, Status: 503, Title: "Too busy", Retryable: true, Retry: oneSecond,
		Detail: "More requests came than can be served now. Nothing was done.",
		Client: "Wait for Retry-After, then repeat with the same key.",
		Ops:    "The listener or a queue is at its limit: add gateways or look for the part that became slow.",
	},
	{
		Code: Unavailable, Status: 503, Title: "Not available at the moment", Retryable: true, Retry: oneSecond,
		Detail: "A part that this needs didn't answer.",
		Client: "Wait for Retry-After, then repeat with the same key. When the answer has order, the outcome is unknown: the purchase may " +
			"have been accepted. Ask at Location, or repeat with the same key; a new key may buy twice.",
		Ops: "/readyz?verbose names the server that doesn't answer. Items of a shard that is being rebuilt answer this for " +
			"some seconds.",
	},
	{
		Code: VersionNotSupported, Status: 505, Title: "The HTTP version isn't supported here",
		Detail: "This listener speaks HTTP/1.1 and HTTP/1.0.",
		Client: "Use HTTP/1.1.",
		Ops:    "Usually a proxy that is set to HTTP/2 without TLS towards this listener: set it to HTTP/1.1.",
	},
}
