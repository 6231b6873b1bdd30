package loadtest

import (
	"math/rand/v2"
	"strconv"
	"time"
)

// maxTries is how many keys one buyer uses at most.
const maxTries = 2

// intent is the buyer's plan for an accepted order.
type intent uint8

const (
	leave intent = iota
	payFor
	giveUp
)

// stage is the current step of a buyer. The order matters: a buyer sends all keys before paying or
// cancelling anything. So two accepted orders of one buyer are known to have been open at the same
// time.
type stage uint8

const (
	pressing  stage = iota // send the current key until it is decided
	repeating              // send the current key once more, after its answer
	settling               // pay or cancel the current order
	insisting              // send the key of a settled order once more
	gone
)

// buyer is one of the crowd. The seed and its number decide, at its arrival, what it will do. One
// goroutine at a time plays it.
type buyer struct {
	user   string
	tries  [maxTries]try
	count  int // how many of tries it will use
	at     int // index of the current one
	stage  stage
	sent   int // requests of the current stage
	double bool
	repeat bool
}

// try is one key of a buyer and what was learned about it.
type try struct {
	key       string
	order     *order // the order that the server named for this key; nil if it has named none
	uncertain bool   // an answer was lost or said "unknown": an order may exist that was never named
	refused   bool   // the final answer was no
	intent    intent
	twice     bool // the payment notice is sent twice
}

// newBuyer decides what buyer number i of the crowd does.
func newBuyer(cfg *Config, i int) *buyer {
	random := rand.New(rand.NewPCG(cfg.Seed, uint64(i)))
	chance := func(share float64) bool { return random.Float64() < share }
	name := strconv.FormatUint(cfg.Seed, 36) + "-" + strconv.Itoa(i)
	b := &buyer{user: "u-" + name, count: 1}
	b.double = chance(cfg.Habits.DoubleClick)
	b.repeat = chance(cfg.Habits.Repeat)
	if chance(cfg.Habits.SecondTry) {
		b.count = 2
	}
	for t := range b.tries[:b.count] {
		b.tries[t].key = "k-" + name + "-" + strconv.Itoa(t+1)
		switch mood := random.Float64(); {
		case mood < cfg.Habits.Pay:
			b.tries[t].intent = payFor
		case mood < cfg.Habits.Pay+cfg.Habits.Cancel:
			b.tries[t].intent = giveUp
		}
		b.tries[t].twice = chance(cfg.Habits.PayTwice)
	}
	return b
}

// worker plays buyers, one at a time. It has two hands: the second one is for double clicks.
type worker struct {
	crowd       *run
	left, right *hand
	clicked     chan struct{} // the second hand is done
}

func newWorker(r *run) *worker {
	return &worker{crowd: r, left: newHand(r.shop), right: newHand(r.shop), clicked: make(chan struct{}, 1)}
}

// play moves the buyer through its stages until it must wait. It returns the time to wait, or 0 if
// the buyer is done.
func (w *worker) play(b *buyer, due time.Time) time.Duration {
	since := due
	if w.crowd.cfg.Within == 0 {
		since = w.crowd.clock.now()
	}
	for b.stage != gone {
		if wait := w.step(b, since); wait > 0 {
			return wait
		}
		since = w.crowd.clock.now()
	}
	return 0
}

// step sends one request, or two at once, and moves the buyer to the next stage, unless the answer
// said to come back later.
func (w *worker) step(b *buyer, since time.Time) time.Duration {
	t := &b.tries[b.at]
	switch b.stage {
	case pressing:
		return w.press(b, t, since)
	case repeating, insisting:
		w.crowd.repeats.Add(1)
		w.crowd.learn(b, t, w.buy(b, t, since), true)
	case settling:
		if wait := w.settle(b, t, since); wait > 0 {
			return wait
		}
	}
	b.advance()
	return 0
}

// advance moves the buyer to its next stage with something to do.
func (b *buyer) advance() {
	b.sent = 0
	switch {
	case b.stage == pressing && b.repeat:
		b.stage = repeating
		return
	case b.stage <= repeating && b.at+1 < b.count:
		b.at++
		b.stage = pressing
		return
	case b.stage <= repeating:
		b.stage, b.at = settling, 0
	case b.stage == settling && b.repeat:
		b.stage = insisting
		return
	default:
		b.stage = settling
		b.at++
	}
	for b.at < b.count && !b.tries[b.at].settles() {
		b.at++
	}
	if b.at == b.count {
		b.stage = gone
	}
}

// settles reports whether the try has an order that the buyer will pay or cancel.
func (t *try) settles() bool { return t.promised() && t.intent != leave }

// promised reports whether the key was accepted.
func (t *try) promised() bool { return t.order != nil && t.order.promised }

// press sends the current key, and waits and repeats as the answer says. The first time, it may
// send the key twice at once.
func (w *worker) press(b *buyer, t *try, since time.Time) time.Duration {
	b.sent++
	first := b.sent == 1
	switch {
	case first:
		w.crowd.goods[0].took(w.crowd.cfg.Quantity)
		if b.at > 0 {
			w.crowd.secondTries.Add(1)
		}
	default:
		w.crowd.retries.Add(1)
	}
	var ans *answer
	if first && b.at == 0 && b.double {
		ans = w.doubleClick(b, t, since)
	} else {
		ans = w.buy(b, t, since)
		w.crowd.learn(b, t, ans, false)
	}
	if !t.promised() && !t.refused {
		if wait, again := w.crowd.comeBack(b.sent, ans); again {
			return wait
		}
	}
	w.crowd.decided(t, ans)
	b.advance()
	return 0
}

// doubleClick sends the same purchase twice at once and returns the answer that counts: the
// refusal, if there is one.
func (w *worker) doubleClick(b *buyer, t *try, since time.Time) *answer {
	w.crowd.doubleClicks.Add(1)
	go func() {
		w.right.buy(w.crowd.purchase(b, t), w.crowd.cfg.Quantity, since)
		w.clicked <- struct{}{}
	}()
	one := w.buy(b, t, since)
	<-w.clicked
	two := &w.right.ans
	w.crowd.tallies.record(Buy, two)
	w.crowd.learn(b, t, one, false)
	w.crowd.learn(b, t, two, false)
	if two.outcome.Decided() {
		return two
	}
	return one
}

func (w *worker) buy(b *buyer, t *try, since time.Time) *answer {
	ans := w.left.buy(w.crowd.purchase(b, t), w.crowd.cfg.Quantity, since)
	w.crowd.tallies.record(Buy, ans)
	return ans
}

// settle pays or cancels the current order, and waits and repeats as the answer says.
func (w *worker) settle(b *buyer, t *try, since time.Time) time.Duration {
	b.sent++
	action := Pay
	if t.intent != payFor {
		action = Cancel
	}
	ans := w.crowd.decide(w.left, action, t.order, since)
	if ans.outcome == Done {
		if action == Pay && t.twice {
			w.crowd.decide(w.left, Pay, t.order, w.crowd.clock.now())
		}
		return 0
	}
	if wait, again := w.crowd.comeBack(b.sent, ans); again {
		return wait
	}
	return 0
}
