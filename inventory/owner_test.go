package inventory

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// named is a Config.Owner.
func named(name string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return name, nil }
}

// TestOwner_ARedisOfAnotherInstallationIsLeftAlone: a process with the wrong Redis would close its
// shards for a rebuild, which empties them.
func TestOwner_ARedisOfAnotherInstallationIsLeftAlone(t *testing.T) {
	b := newBed(t)
	ours := b.process(Config{Owner: named("ours")})
	b.rebuilt(ours, Ref{3, 1}, 30)
	told := make(chan error, 10)
	// The first shard is nobody's, so this process may use it.
	theirs := b.process(Config{Owner: named("theirs"), OnForeign: func(err error) { told <- err }})
	err := theirs.Close(t.Context(), Ref{3, 7})
	if unknown := new(UnknownError); !errors.Is(err, ErrForeign) || errors.As(err, &unknown) {
		t.Errorf("close: %v", err)
	}
	if err := <-told; !errors.Is(err, ErrForeign) {
		t.Errorf("told %v", err)
	}
	if item, _ := b.available(ours, 3); item.Available != 30 {
		t.Errorf("left is %+v", item)
	}
	b.rebuilt(ours, Ref{3, 8}, 20) // its owner may
	b.rebuilt(theirs, Ref{4, 1}, 5)
	b.rebuilt(ours, Ref{0, 1}, 5)
	t.Run("a process that comes later is refused at its start", func(t *testing.T) {
		_, err := Open(t.Context(), Config{Addrs: []string{b.addr}, Owner: named("theirs")})
		if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), `"ours"`) {
			t.Errorf("open: %v", err)
		}
	})
	t.Run("nobody asks without an owner", func(t *testing.T) {
		b.rebuilt(b.process(Config{}), Ref{0, 9}, 5)
	})
	t.Run("an emptied Redis is anybody's", func(t *testing.T) {
		b.redis.FlushAll()
		b.rebuilt(theirs, Ref{3, 9}, 5)
		if err := ours.Close(t.Context(), Ref{3, 10}); !errors.Is(err, ErrForeign) {
			t.Errorf("close: %v", err)
		}
	})
}

// TestOwner_UnknownClosesNothing: while nobody can say whose stock it is, nothing is emptied.
func TestOwner_UnknownClosesNothing(t *testing.T) {
	b := newBed(t)
	b.rebuilt(b.process(Config{Owner: named("ours")}), Ref{0, 1}, 30)
	away := errors.New("the database is away")
	s := b.process(Config{Owner: func(context.Context) (string, error) { return "", away }})
	if err := s.Close(t.Context(), Ref{0, 2}); !errors.Is(err, away) {
		t.Errorf("close: %v", err)
	}
	if item, _ := b.available(s, 0); item.Available != 30 {
		t.Errorf("left is %+v", item)
	}
}

// TestOwner_IsLookedAtAgain: a Redis that comes to be another installation's, behind a name or a
// proxy, ends the process.
func TestOwner_IsLookedAtAgain(t *testing.T) {
	b := newBed(t)
	told := make(chan error, 10)
	s := b.process(Config{Owner: named("ours"), OnForeign: func(err error) { told <- err }})
	b.rebuilt(s, Ref{0, 1}, 30)
	b.redis.HSet("ps:{ps.0}:shard", ownerField, "theirs")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.kick()
	select {
	case err := <-told:
		if !errors.Is(err, ErrForeign) {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Error("nobody was told")
	}
}
