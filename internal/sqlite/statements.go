package sqlite

import (
	"context"
	"database/sql"
	"math/bits"
	"slices"
	"strings"
	"sync"
)

// maxRepeat is how often the group of a statement is repeated at most: 512 rows of the 19 columns of an order are 9,728 of
// the 32,766 variables that SQLite takes.
const maxRepeat = 512

// shape names a prepared statement: its text, in which one group in braces may be repeated.
//
//	SELECT … WHERE id IN ({?})          repeated 3 times: … IN (?,?,?)
//	INSERT INTO … VALUES {(?,?)}        repeated 2 times: … VALUES (?,?),(?,?)
type shape struct {
	text   string
	repeat int
}

func (s shape) String() string {
	head, rest, ok := strings.Cut(s.text, "{")
	if !ok {
		return s.text
	}
	group, tail, _ := strings.Cut(rest, "}")
	return head + strings.Repeat(group+",", s.repeat-1) + group + tail
}

// statements keeps the prepared statements of a connection or a pool. There are as many as there are texts in this package,
// times the few sizes that lookup and insert use, so nothing is ever dropped.
type statements struct {
	prepare func(ctx context.Context, text string) (*sql.Stmt, error)

	mu   sync.Mutex
	kept map[shape]*sql.Stmt
}

func newStatements(prepare func(context.Context, string) (*sql.Stmt, error)) *statements {
	return &statements{prepare: prepare, kept: make(map[shape]*sql.Stmt)}
}

func (s *statements) get(ctx context.Context, sh shape) (*sql.Stmt, error) {
	s.mu.Lock()
	kept := s.kept[sh]
	s.mu.Unlock()
	if kept != nil {
		return kept, nil
	}
	// Preparing may wait for a connection, so it is done without the lock: two may prepare the same, the first one wins, as it
	// may be in use already.
	made, err := s.prepare(ctx, sh.String())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	kept = s.kept[sh]
	if kept == nil {
		s.kept[sh] = made
	}
	s.mu.Unlock()
	if kept != nil {
		return kept, made.Close()
	}
	return made, nil
}

// close closes the statements; they must not be in use.
func (s *statements) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stmt := range s.kept {
		_ = stmt.Close() // its connection is closed next, and that error is told
	}
	clear(s.kept)
}

func (s *statements) exec(ctx context.Context, text string, args ...any) (sql.Result, error) {
	stmt, err := s.get(ctx, shape{text, 1})
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

// change is exec that returns how many rows were changed.
func (s *statements) change(ctx context.Context, text string, args ...any) (int64, error) {
	result, err := s.exec(ctx, text, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (s *statements) query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	return s.queryShape(ctx, shape{text, 1}, args)
}

func (s *statements) queryShape(ctx context.Context, sh shape, args []any) (*sql.Rows, error) {
	stmt, err := s.get(ctx, sh)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

// querier is where rows come from: prepared statements, or a snapshot.
type querier interface {
	query(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}

// each calls scan for every row of a query, and closes it. A connection's statements are never in use twice, because every
// query of this package ends here.
func each(rows *sql.Rows, err error, scan func(*sql.Rows) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// one scans the only row of a query into dest and reports whether there was one.
func one(ctx context.Context, q querier, text string, args []any, dest ...any) (bool, error) {
	found := false
	rows, err := q.query(ctx, text, args...)
	err = each(rows, err, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(dest...)
	})
	return found, err
}

// lookup runs a query whose group is a list of keys, in chunks. Lists are filled up with NULL, which equals nothing, to one
// of four sizes, so that a handful of statements serves them all. Keys as the rows of VALUES are cheaper than an IN list,
// for which SQLite builds and fills a tree first.
func lookup[K ~string](ctx context.Context, s *statements, text string, first []any, keys []K, scan func(*sql.Rows) error) error {
	return inLists(first, keys, func(repeat int, args []any) error {
		rows, err := s.queryShape(ctx, shape{text, repeat}, args)
		return each(rows, err, scan)
	})
}

// update runs a statement whose group is a list of keys, in chunks.
func update[K ~string](ctx context.Context, s *statements, text string, first []any, keys []K) error {
	return inLists(first, keys, func(repeat int, args []any) error {
		stmt, err := s.get(ctx, shape{text, repeat})
		if err != nil {
			return err
		}
		_, err = stmt.ExecContext(ctx, args...)
		return err
	})
}

func inLists[K ~string](first []any, keys []K, run func(repeat int, args []any) error) error {
	for chunk := range slices.Chunk(keys, maxRepeat) {
		repeat := listSize(len(chunk))
		args := make([]any, 0, len(first)+repeat)
		args = append(args, first...)
		for _, key := range chunk {
			args = append(args, string(key))
		}
		for range repeat - len(chunk) {
			args = append(args, nil)
		}
		if err := run(repeat, args); err != nil {
			return err
		}
	}
	return nil
}

func listSize(n int) int {
	for _, size := range [...]int{1, 8, 64} {
		if n <= size {
			return size
		}
	}
	return maxRepeat
}

// insert writes rows with a statement whose group is one row. bind appends a row's values. The sizes are powers of two: a
// batch of 500 is six statements, each prepared once for ever, where a statement of exactly 500 rows would be compiled for
// each new size of a batch.
func insert[T any](ctx context.Context, s *statements, text string, rows []T, bind func(args []any, row *T) []any) error {
	var args []any
	for len(rows) > 0 {
		size := min(1<<(bits.Len(uint(len(rows)))-1), maxRepeat)
		args = args[:0]
		for i := range rows[:size] {
			args = bind(args, &rows[i])
		}
		stmt, err := s.get(ctx, shape{text, size})
		if err != nil {
			return err
		}
		if _, err := stmt.ExecContext(ctx, args...); err != nil {
			return err
		}
		rows = rows[size:]
	}
	return nil
}
