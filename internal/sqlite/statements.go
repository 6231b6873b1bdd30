package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// maxRepeat is the most repetitions of a statement's group: 512 rows of the 25 columns of an order
// are 12,800 of the 32,766 variables that SQLite allows.
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

// statements keeps the prepared statements of a connection or a pool. Their number is bounded by
// the texts in this package and the few sizes that lookup and insert use, so nothing is ever
// dropped.
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
	// Preparing may wait for a connection, so it is done without the lock. If two calls prepare the
	// same statement, the first one is kept, because it may be in use already.
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
		_ = stmt.Close() // its connection is closed next, and that error is returned
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

// change runs a statement like exec, and returns how many rows it changed.
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

// querier is the source of rows: prepared statements, or a snapshot.
type querier interface {
	query(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	queryShape(ctx context.Context, sh shape, args []any) (*sql.Rows, error)
}

// errEnough ends an each early, without an error.
var errEnough = errors.New("enough rows")

// each calls scan for every row of a query, and closes it. A connection's statements are never in
// use twice, because every query of this package ends here.
func each(rows *sql.Rows, err error, scan func(*sql.Rows) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		switch err := scan(rows); {
		case errors.Is(err, errEnough):
			return nil
		case err != nil:
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

// exists reports whether a query has a row.
func exists(ctx context.Context, q querier, text string, args ...any) (bool, error) {
	var ignored any
	return one(ctx, q, text, args, &ignored)
}

// text binds a key that is one text.
func text[K ~string](args []any, key *K) []any { return append(args, string(*key)) }

// lookup runs a query whose group is a list of keys, in chunks; bind appends a key's values. Lists
// are filled up with NULL, which matches nothing, to one of four sizes, so that a few statements
// are enough. Keys as the rows of VALUES are cheaper than an IN list, for which SQLite builds and
// fills a tree first.
func lookup[K any](ctx context.Context, q querier, query string, first []any, keys []K,
	bind func(args []any, key *K) []any, scan func(*sql.Rows) error) error {
	return inLists(first, keys, bind, func(repeat int, args []any) error {
		rows, err := q.queryShape(ctx, shape{query, repeat}, args)
		return each(rows, err, scan)
	})
}

// update runs a statement whose group is a list of keys, in chunks, and returns how many rows it
// changed.
func update[K any](ctx context.Context, s *statements, query string, first []any, keys []K,
	bind func(args []any, key *K) []any) (changed int64, err error) {
	err = inLists(first, keys, bind, func(repeat int, args []any) error {
		stmt, err := s.get(ctx, shape{query, repeat})
		if err != nil {
			return err
		}
		result, err := stmt.ExecContext(ctx, args...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		changed += n
		return err
	})
	return changed, err
}

func inLists[K any](first []any, keys []K, bind func([]any, *K) []any, run func(int, []any) error) error {
	for chunk := range slices.Chunk(keys, maxRepeat) {
		repeat := listSize(len(chunk))
		args := slices.Clone(first)
		for i := range chunk {
			args = bind(args, &chunk[i])
		}
		width := (len(args) - len(first)) / len(chunk)
		for range width * (repeat - len(chunk)) {
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

// insert writes rows with a statement whose group is one row. bind appends a row's values. The
// sizes are powers of two: a batch of 500 uses six statements, each prepared only once. A statement
// for exactly 500 rows would have to be compiled for each new size of a batch.
func insert[T any](ctx context.Context, s *statements, query string, rows []T, bind func(args []any, row *T) []any) error {
	var args []any
	for len(rows) > 0 {
		size := min(1<<(bits.Len(uint(len(rows)))-1), maxRepeat)
		args = args[:0]
		for i := range rows[:size] {
			args = bind(args, &rows[i])
		}
		stmt, err := s.get(ctx, shape{query, size})
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

// list is a JSON array of numbers, for json_each: one parameter, whatever the length.
func list[T ~int64 | ~uint16 | ~uint32](numbers []T) string {
	out := []byte{'['}
	for i, n := range numbers {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, int64(n), 10)
	}
	return string(append(out, ']'))
}
