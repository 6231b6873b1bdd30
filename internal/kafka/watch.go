package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/penstock/penstock/seckill"
)

// topicState is the topic as a look found it. It does not change.
type topicState struct {
	id      seckill.TopicID
	leaders []int32       // the leader of each partition; -1 if there is none
	missing []error       // why there is no leader
	gone    chan struct{} // closed when another topic was found in the place of this one
	anew    bool          // it was found in the place of another topic, and that was counted
	adopted bool          // it belongs to this installation as soon as a worker has registered it (Config.Claim)
}

const (
	// lookAgain is how often the cluster and the books are looked at while there is a problem.
	lookAgain = time.Second
	// tendEvery is how often the lanes are looked at. It is far below StallAfter.
	tendEvery = 200 * time.Millisecond
)

// look reads the state of the topic and the positions in the database. It updates what it could
// read, and keeps the rest.
func (q *Queue) look(ctx context.Context) error {
	topicErr := q.lookAtTopic(ctx)
	var booksErr error
	if t := q.topic.Load(); t != nil {
		booksErr = q.readBooks(ctx, t)
	}
	q.stateMu.Lock()
	q.topicErr, q.booksErr = topicErr, booksErr
	q.stateMu.Unlock()
	q.judge()
	return errors.Join(topicErr, booksErr)
}

// lookAtTopic finds the topic, and checks it if it is not the same as before. Each step has its own
// timeout, so that a silent database doesn't use up Kafka's time.
func (q *Queue) lookAtTopic(ctx context.Context) error {
	adopt, err := q.claim(ctx)
	if err != nil {
		return err
	}
	spec, detail, made, err := q.findTopic(ctx)
	if err != nil {
		return err
	}
	t := &topicState{id: seckill.TopicID(detail.ID), gone: make(chan struct{}), adopted: adopt && q.cfg.Claim != nil}
	for i, p := range detail.Partitions.Sorted() {
		if p.Partition != int32(i) {
			return fmt.Errorf("%w: %s has no partition %d", ErrTopic, q.cfg.Topic, i)
		}
		leader := p.Leader
		if p.Err != nil {
			leader = -1
		}
		t.leaders, t.missing = append(t.leaders, leader), append(t.missing, p.Err)
	}
	old := q.topic.Load()
	if old == nil && !adopt && !made {
		if err := q.checkOurs(ctx, t); err != nil {
			return err
		}
	}
	if old == nil || old.id != t.id {
		if err := q.check(ctx, spec, detail); err != nil {
			return err
		}
	}
	q.adopt(old, t)
	return nil
}

// findTopic returns the topic as the cluster knows it. A worker makes it if it is missing. A
// gateway doesn't: pages that its clients still have would be written to the new topic before any
// worker knows it (see checkOurs).
func (q *Queue) findTopic(ctx context.Context) (spec topicSpec, detail kadm.TopicDetail, made bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	spec = topicSpec{
		name: q.cfg.Topic, partitions: q.cfg.Partitions, replication: q.cfg.Replication, minInSync: q.cfg.MinInSync,
		settings:  map[string]string{"cleanup.policy": "delete", "retention.ms": retentionMS(q.cfg.Retention)},
		mustExist: !q.cfg.Worker,
	}
	detail, made, err = spec.findOrMake(ctx, q.admin)
	return spec, detail, made, err
}

// claim checks to which installation the cluster belongs, before anything is done in it. If nobody
// can tell, a gateway goes on: promises may be put while the database can't be reached, and a
// worker doesn't read then.
func (q *Queue) claim(ctx context.Context) (adopt bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	if err := q.client.Ping(ctx); err != nil {
		return false, fmt.Errorf("kafka: reach brokers %v: %w", q.cfg.Brokers, err)
	}
	if q.cfg.Claim == nil {
		return true, nil
	}
	brokers, err := q.admin.BrokerMetadata(ctx)
	if err != nil {
		return false, fmt.Errorf("kafka: ask for the cluster's id: %w", err)
	}
	adopt, err = q.cfg.Claim(ctx, brokers.Cluster)
	if errors.Is(err, seckill.ErrForeign) {
		return false, fmt.Errorf("kafka: brokers %v: %w", q.cfg.Brokers, err)
	}
	if err != nil && q.cfg.Worker {
		return false, fmt.Errorf("kafka: look to which installation the cluster belongs: %w", err)
	}
	return adopt, nil
}

// checkOurs refuses a topic with records that the books don't know. Records are put only into a
// topic that a worker has registered or has just made. So these records belong to another
// installation, and a worker would take the partitions away from its workers. The id of the cluster
// is not enough: clusters may have the same id if it was copied from an example.
func (q *Queue) checkOurs(ctx context.Context, t *topicState) error {
	known, err := q.booked(ctx, t)
	if err != nil || known {
		return err
	}
	recorded, err := q.recorded(ctx, t)
	if err != nil || !recorded {
		return err
	}
	// The records may be newer than the answer of the books, or another worker may be about to
	// register the topic.
	for until := time.Now().Add(registering); ; {
		if known, err = q.booked(ctx, t); err != nil || known {
			return err
		}
		if !time.Now().Before(until) {
			return fmt.Errorf("kafka: brokers %v: %w: the topic %s has records, and the database doesn't know it",
				q.cfg.Brokers, seckill.ErrForeign, q.cfg.Topic)
		}
		if err := pause(ctx, firstPause); err != nil {
			return err
		}
	}
}

// registering is how long a worker may take, from its first look at a topic, to register it.
const registering = time.Second

// booked reports whether the books know the topic, or might know it. If they know no topic, a
// gateway waits for a worker. If they can't be read, it goes on.
func (q *Queue) booked(ctx context.Context, t *topicState) (bool, error) {
	positions, err := q.positions(ctx)
	if !q.cfg.Worker && (err != nil || len(positions) == 0) {
		return true, nil
	}
	return slices.ContainsFunc(positions, func(p seckill.Position) bool { return p.Topic == t.id }), err
}

// recorded reports whether the topic has records, or had some.
func (q *Queue) recorded(ctx context.Context, t *topicState) (bool, error) {
	ends, err := q.ends(ctx)
	if err != nil {
		return false, err
	}
	for p := range t.leaders {
		end, ok := ends.Lookup(q.cfg.Topic, int32(p))
		switch {
		case !ok:
		case end.Err != nil:
			return false, fmt.Errorf("kafka: look for records of partition %d: %w", p, end.Err)
		case end.Offset > 0:
			return true, nil
		}
	}
	return false, nil
}

// adopt makes t the topic of this queue.
func (q *Queue) adopt(old, t *topicState) {
	switch {
	case old == nil:
	case old.id == t.id:
		t.gone, t.anew = old.gone, old.anew
		if len(t.leaders) > len(old.leaders) {
			q.part(q.shared.current()) // it doesn't know the new partitions
		}
	default:
		q.cfg.Logger.Error("the topic was replaced: records of the old one that no worker had read are gone",
			"topic", q.cfg.Topic)
		q.counts.dataLoss.Add(1)
		t.anew = true
		q.setKnown(0)        // until a worker has registered it, see checkOurs
		q.shared.retire(nil) // it knows the topic by its former id
		for _, l := range *q.lanes.Load() {
			l.own.retire(nil)
		}
	}
	q.topic.Store(t)
	if old != nil && old.id != t.id {
		close(old.gone)
	}
	select {
	case <-q.found:
	default:
		close(q.found)
	}
	for i, l := range *q.lanes.Load() {
		if i < len(t.leaders) {
			l.led(t.leaders[i], t.missing[i])
		} else {
			l.led(-1, errors.New("the topic doesn't have this partition"))
		}
	}
}

// check looks whether the topic is safe to use.
func (q *Queue) check(ctx context.Context, spec topicSpec, detail kadm.TopicDetail) error {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	settings, err := topicSettings(ctx, q.admin, q.cfg.Topic)
	var unsafe []string
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		unsafe = []string{"topic " + q.cfg.Topic +
			": its configuration can't be read, so that min.insync.replicas is not checked"}
	case err != nil:
		return err
	default:
		if err := spec.checkInSync(detail, settings); err != nil {
			return err
		}
		unsafe = unsafeSettings(detail, settings, "delete")
	}
	q.stateMu.Lock()
	q.unsafe = unsafe
	q.stateMu.Unlock()
	return nil
}

// setKnown sets how many partitions pages may be put into.
func (q *Queue) setKnown(n int) {
	if n > 0 {
		fresh := len(*q.lanes.Load())
		q.lane(int32(n - 1))
		if t := q.topic.Load(); t != nil {
			for i := fresh; i < min(n, len(t.leaders)); i++ {
				q.lane(int32(i)).led(t.leaders[i], t.missing[i])
			}
		}
	}
	q.known.Store(int32(n))
}

// judge decides whether Reserve may give slots.
func (q *Queue) judge() {
	lanes, now := q.usable(), q.clock()
	if slices.ContainsFunc(lanes, func(l *lane) bool { return l.health(now) != down }) {
		q.down.Store(nil)
		return
	}
	why := ErrDown
	switch problems := q.Problems(); {
	case len(problems) > 0:
		why = fmt.Errorf("%w: %s", ErrDown, problems[0])
	case len(lanes) == 0:
		why = fmt.Errorf("%w: none is known yet", ErrDown)
	}
	q.down.Store(&why)
}

// lookNow asks for a look soon.
func (q *Queue) lookNow() {
	select {
	case q.nudged <- struct{}{}:
	default:
	}
}

// lookLoop looks until ctx ends.
func (q *Queue) lookLoop(ctx context.Context) {
	said := ""
	for {
		every := q.cfg.LookEvery
		if len(q.Problems()) > 0 {
			every = min(every, lookAgain)
		}
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-q.nudged:
			timer.Stop()
			if pause(ctx, metadataMinAge) != nil { // the client learns nothing newer before that
				return
			}
		case <-timer.C:
		}
		err := q.look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			said = ""
		default:
			q.counts.lookErrors.Add(1)
			if errors.Is(err, seckill.ErrForeign) && q.cfg.OnForeign != nil {
				q.cfg.OnForeign(err)
			}
			if err.Error() != said { // an outage is logged once
				q.cfg.Logger.Warn("the queue isn't complete", "err", err)
			}
			said = err.Error()
		}
	}
}

// tendLoop looks after the lanes until ctx ends: it fails records that wait for too long, marks
// slow lanes, and tries failed ones again.
func (q *Queue) tendLoop(ctx context.Context) {
	tick := time.NewTicker(min(tendEvery, max(q.cfg.StallAfter/2, time.Millisecond)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, lanes, usable := q.clock(), *q.lanes.Load(), len(q.usable())
		for i, l := range lanes {
			l.expire(now, q.cfg.DeliveryTimeout-tendEvery)
			l.observe()
			if i < usable && l.wantsProbe(now) { // see checkOurs
				l.put(q.marker(func(int64, error) {}))
			}
		}
		q.share(now, q.usable())
		q.judge()
	}
}

// Problems describes what is wrong with the queue. It is empty if nothing is wrong.
func (q *Queue) Problems() []string {
	q.stateMu.Lock()
	topicErr, booksErr := q.topicErr, q.booksErr
	q.stateMu.Unlock()
	var out []string
	for _, err := range []error{topicErr, booksErr} {
		if err != nil {
			out = append(out, err.Error())
		}
	}
	for _, p := range q.Partitions() {
		if p.Health != well.String() {
			out = append(out, fmt.Sprintf("kafka: partition %d is %s: %v", p.Partition, p.Health, p.Err))
		}
	}
	return out
}
