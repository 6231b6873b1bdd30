package desk

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// replayStore is a stubStore that accepts pages as a test says.
type replayStore struct {
	stubStore
	accept  func(seckill.Page) (seckill.Acceptance, error)
	suspect []inventory.Ref
}

func (s *replayStore) Shards(context.Context) ([]seckill.ShardRow, error) {
	return []seckill.ShardRow{{Ref: inventory.Ref{Shard: 0, Epoch: 1}}, {Ref: inventory.Ref{Shard: 1, Epoch: 1}}}, nil
}

func (s *replayStore) Accept(_ context.Context, b seckill.Batch) ([]seckill.Acceptance, error) {
	a, err := s.accept(b.Pages[0])
	return []seckill.Acceptance{a}, err
}

func (s *replayStore) MarkSuspect(_ context.Context, ref inventory.Ref) error {
	s.suspect = append(s.suspect, ref)
	return nil
}

// keptPages is a log of pages with one promise each.
type keptPages []seckill.Page

func (l keptPages) Between(_ context.Context, s seckill.Stretch) (out []seckill.Message, next *seckill.LogPlace, err error) {
	for i := range l {
		if int64(i) >= s.After.Offset {
			out = append(out, seckill.Message{Offset: int64(i), Value: seckill.AppendPage(nil, &l[i])})
		}
	}
	return out, nil, nil
}

func pagesOf(users ...string) (log keptPages) {
	for _, user := range users {
		p := wish(user, "k")
		log = append(log, seckill.Page{
			PageHeader: seckill.PageHeader{Ref: inventory.Ref{Shard: 1, Epoch: 1}, Seq: 1, Node: "gw", Put: p.Arrived},
			Promises: []seckill.Promise{{
				Order: orderOf(1, p), Caller: testCaller.CallerRef, Activity: "a", SKU: "x01", User: p.User, Quantity: 1,
				Amount: seckill.Money{Minor: 100, Currency: "CNY"}, Request: "r", Accepted: p.Arrived,
			}},
		})
	}
	return log
}

func openReplay(t *testing.T, accept func(seckill.Page) (seckill.Acceptance, error)) (*Office, *replayStore) {
	store := &replayStore{accept: accept}
	d := openDesk(t, seckill.DefaultConfig(), Parts{Stock: new(stubStock), Queue: new(stubQueue), Store: store, Log: slog.New(slog.DiscardHandler)},
		testItems(1, 1))
	return NewOffice(d, new(stubStock)), store
}

// An error that tells a worker that a store has lost data tells a replay the same.
func TestReplayLog_AsksForARebuild(t *testing.T) {
	ref := inventory.Ref{Shard: 1, Epoch: 1}
	for name, c := range map[string]struct {
		is   seckill.Acceptance
		want []inventory.Ref
	}{
		"made":                        {seckill.Acceptance{Outcome: seckill.OutcomeOpened, Ref: ref}, nil},
		"rejected":                    {seckill.Acceptance{Outcome: seckill.OutcomeRejected, Ref: ref}, []inventory.Ref{ref}},
		"made, and the books behind":  {seckill.Acceptance{Outcome: seckill.OutcomeOpened, Ref: ref, Ahead: true}, []inventory.Ref{ref}},
		"there already, and the same": {seckill.Acceptance{Outcome: seckill.OutcomeExists, Ref: ref, Ahead: true}, []inventory.Ref{ref}},
	} {
		o, store := openReplay(t, func(seckill.Page) (seckill.Acceptance, error) { return c.is, nil })
		done, err := o.ReplayLog(t.Context(), pagesOf("ann"), LogReplay{Stretch: seckill.Stretch{Most: 10}}, seckill.Author{})
		if err != nil || done.Records != 1 || !slices.Equal(store.suspect, c.want) {
			t.Errorf("%s: %+v, %v; suspect are %v, want %v", name, done, err, store.suspect, c.want)
		}
	}
}

// When a record fails, the work before it stays done, and the replay goes on at that record.
func TestReplayLog_AFailureKeepsWhatWasDone(t *testing.T) {
	var fails error
	o, _ := openReplay(t, func(p seckill.Page) (seckill.Acceptance, error) {
		if p.Promises[0].User == "cat" {
			return seckill.Acceptance{}, fails
		}
		return seckill.Acceptance{Outcome: seckill.OutcomeOpened, Ref: p.Ref}, nil
	})
	fails = errors.New("no answer, says the test")
	r := LogReplay{Stretch: seckill.Stretch{From: time.Now(), Most: 10}}
	log := pagesOf("ann", "bob", "cat", "dan")
	done, err := o.ReplayLog(t.Context(), log, r, seckill.Author{})
	if err != nil || done.Records != 2 || done.Promises != 2 || done.Made != 2 || done.Next == nil || done.Next.Offset != 2 {
		t.Fatalf("up to the failure: %+v, %v", done, err)
	}
	r.After = *done.Next
	if done, err := o.ReplayLog(t.Context(), log, r, seckill.Author{}); !errors.Is(err, fails) || done.Records != 0 {
		t.Errorf("at the failure: %+v, %v", done, err)
	}
	fails = nil
	if done, err := o.ReplayLog(t.Context(), log, r, seckill.Author{}); err != nil || done.Records != 2 || done.Made != 1 || done.Next != nil {
		t.Errorf("behind it: %+v, %v", done, err)
	}
}
