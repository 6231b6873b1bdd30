package inventory

import (
	"context"
	"fmt"
)

// boardKey is the key of a board of notes: a hash on one server, since boards are short.
func (s *Stock) boardKey(board string) string { return s.cfg.Prefix + ":board:" + board }

// Pin leaves a note on a board that all processes on this Redis read, in place of one of that name.
// Notes are forgotten with the Redis, and no replica is waited for: they may name what is true
// elsewhere, or what its author pins again.
func (s *Stock) Pin(ctx context.Context, board, name, text string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	client, err := s.conn()
	if err == nil {
		err = client.Do(ctx, client.B().Hset().Key(s.boardKey(board)).FieldValue().FieldValue(name, text).Build()).Error()
	}
	return noted("pin a note", board, err)
}

// Unpin takes notes off a board. Names that have none are passed over.
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

// noted names the board in an error.
func noted(what, board string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s of board %s: %w", what, board, err)
}
