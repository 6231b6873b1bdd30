package protocol

// holdState is what the shard knows of a hold.
type holdState uint8

const (
	holdNone holdState = iota
	holdFresh
	holdDoomed
	holdOrdered
	holdVoid // a marker
	holdSold // a marker
)

// undecided reports whether the sweeper has to look at the hold.
func (h holdState) undecided() bool { return h == holdFresh || h == holdDoomed }

// rowState is what the database knows of an order.
type rowState uint8

const (
	rowAbsent rowState = iota
	rowOpen
	rowPaid
	rowCancelled
	rowTombstone
	rowRejected
)

// asHold is how a rebuild writes an order of that state into the shard.
func (r rowState) asHold() holdState {
	switch r {
	case rowOpen:
		return holdOrdered
	case rowPaid:
		return holdSold
	case rowCancelled, rowTombstone, rowRejected:
		return holdVoid
	default:
		return holdNone
	}
}

// settling is an outbox row of an order: nothing, or how its hold ends.
type settling uint8

const (
	settleNone settling = iota
	settleVoid
	settleSold
)

// progress is how far an attempt to buy has come.
type progress uint8

const (
	idle     progress = iota
	holding           // the hold is sent
	held              // and answered
	putting           // the record is sent
	acked             // and acknowledged
	answered          // 202
	expired           // the accept deadline has passed: it answers unknown
	refused
)

// epochs is a set of epochs: the messages of one kind that are on their way to Redis.
type epochs uint8

func (e epochs) has(n int8) bool       { return e&(1<<n) != 0 }
func (e epochs) with(n int8) epochs    { return e | 1<<n }
func (e epochs) without(n int8) epochs { return e &^ (1 << n) }

// state is everything there is at one moment. It is comparable, and small: millions are looked at.
type state struct {
	redis   shard
	replica shard // what a failover falls back to

	attempts [maxAttempts]attempt

	log       [maxLog]record
	logged    int8 // how many records the log has
	polled    int8 // the worker's position
	committed int8 // and its committed offset

	orders    [maxOrders]order
	itemEpoch int8
	nextEpoch int8
	total     int8

	rebuild  rebuild
	merchant merchant

	lossy            bool // a failover forgot acknowledged writes and nobody has noticed yet
	losses           int8
	workerCrashes    int8
	rebuilderCrashes int8
	cancels          int8
}

// shard is an item's stock in Redis.
type shard struct {
	epoch     int8
	closed    bool
	available int8
	holds     [maxOrders]holdState
}

// attempt is one request to buy, from its arrival to its answer.
type attempt struct {
	at        progress
	epoch     int8 // the item's epoch as its gateway knows it
	hold      bool // its hold is on its way
	record    bool // its record is on its way
	untouched bool // with NoTouch: it had its hold before the sweeper's note
}

// live reports whether the attempt has its hold and may still answer 202.
func (a attempt) live() bool { return a.at == held || a.at == putting || a.at == acked }

// record is a record in the log.
type record struct{ order, epoch int8 }

// order is an order in the database, the messages about its hold, and the sweeper's work on it.
type order struct {
	row    rowState
	outbox settling

	confirms, voids, solds epochs

	noted    bool // the sweeper has noted the hold and nobody touched it since
	sweeping bool // it is doomed, and waits for the workers
	sweptAt  int8 // the epoch it was doomed in
	sweptEnd int8 // the log's end after the doom

	lookedAt int8 // the epoch in which a desk that cancels saw the hold, 0 without one

	promised bool // somebody was answered 202: what L2 is about, known to nobody in the system
}

// rebuild is a rebuild under way.
type rebuild struct {
	stage     rebuildStage
	epoch     int8
	end       int8 // the log's end after the wait
	available int8 // the snapshot
	holds     [maxOrders]holdState
}

// merchant is one restock (+1) and one withdrawal (-1).
type merchant struct {
	restock        restockStage
	restocks       epochs // on their way
	restockApplied bool   // the shard's marker

	withdrawal       withdrawalStage
	withdrawalEpoch  int8
	withdrawalSent   bool // its hold is on its way
	withdrawalHold   holdState
	withdrawalRow    withdrawalRow
	withdrawalOutbox bool
	withdrawalSolds  epochs
	withdrawalVoids  epochs
}

// claimed counts the units that the database has given away. Orders have one unit each.
func (s *state) claimed() (units int8) {
	for i := range s.orders {
		if s.orders[i].row == rowOpen || s.orders[i].row == rowPaid {
			units++
		}
	}
	return units
}

// empty is a shard that knows nothing of its holds: of an empty Redis, or one that was just closed. The holds' notes and the
// merchant's markers go with it.
func (s *state) empty(epoch int8, closed bool) {
	s.redis = shard{epoch: epoch, closed: closed}
	for i := range s.orders {
		s.orders[i].noted = false
	}
	s.merchant.restockApplied, s.merchant.withdrawalHold = false, holdNone
}
