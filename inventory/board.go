package inventory

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/rueidis"
)

// boardKey is the key of a board of notes: a hash on one server, since boards are short.
func (s *Stock) boardKey(board string) string { return s.cfg.Prefix + ":board:" + board }

// Pin puts a note on a board that all processes on this Redis read. It replaces a note of the same
// name. Notes are lost with the Redis, and Pin doesn't wait for replicas. So a note must also be
// stored elsewhere, or its author must pin it again.
func (s *Stock) Pin(ctx context.Context, board, name, text string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	client, err := s.conn()
	if err == nil {
		err = client.Do(ctx, client.B().Hset().Key(s.boardKey(board)).FieldValue().FieldValue(name, text).Build()).Error()
	}
	return noted("pin a note", board, err)
}

// Unpin takes notes off a board. Names without a note are ignored.
func (s *Stock) Unpin(ctx context.Context, board string, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	client, err := s.conn()
	if err == nil {
		err = client.Do(ctx, client.B().Hdel().Key(s.boardKey(board)).Field(names...).Build()).Error()
	}
	return noted("take notes off", board, err)
}

// Notes returns all notes of a board by their names.
func (s *Stock) Notes(ctx context.Context, board string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	client, err := s.conn()
	var notes map[string]string
	if err == nil {
		notes, err = client.Do(ctx, client.B().Hgetall().Key(s.boardKey(board)).Build()).AsStrMap()
	}
	return notes, noted("read the notes", board, err)
}

// noted adds the name of the board to an error.
func noted(what, board string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s of board %s: %w", what, board, err)
}

// ownerKey is the key of a name that a node may own.
func (s *Stock) ownerKey(name string) string { return s.cfg.Prefix + ":owner:" + name }

// Own gives a name to owner for a time, or prolongs the time if owner has it already. It returns
// the current owner. Ownership is lost with the Redis, and after a failover two nodes may own the
// same name, so an owner must tolerate that.
func (s *Stock) Own(ctx context.Context, name, owner string, d time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	client, err := s.conn()
	if err != nil {
		return "", fmt.Errorf("own %s: %w", name, err)
	}
	key := s.ownerKey(name)
	err = client.Do(ctx, client.B().Set().Key(key).Value(owner).Nx().Px(d).Build()).Error()
	if err == nil {
		return owner, nil
	}
	if !rueidis.IsRedisNil(err) {
		return "", fmt.Errorf("own %s: %w", name, err)
	}
	is, err := client.Do(ctx, client.B().Get().Key(key).Build()).ToString()
	if err == nil && is == owner {
		err = client.Do(ctx, client.B().Pexpire().Key(key).Milliseconds(d.Milliseconds()).Build()).Error()
	}
	if err != nil { // also if the ownership ended meanwhile: the next call sees that
		return "", fmt.Errorf("own %s: %w", name, err)
	}
	return is, nil
}

// Release ends the ownership of a name, no matter who owns it.
func (s *Stock) Release(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	client, err := s.conn()
	if err == nil {
		err = client.Do(ctx, client.B().Del().Key(s.ownerKey(name)).Build()).Error()
	}
	if err != nil {
		return fmt.Errorf("release %s: %w", name, err)
	}
	return nil
}

// Assign gives a name to owner for a time, even if another process owns it.
func (s *Stock) Assign(ctx context.Context, name, owner string, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	client, err := s.conn()
	if err == nil {
		err = client.Do(ctx, client.B().Set().Key(s.ownerKey(name)).Value(owner).Px(d).Build()).Error()
	}
	if err != nil {
		return fmt.Errorf("assign claim %s: %w", name, err)
	}
	return nil
}
