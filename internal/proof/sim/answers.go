package sim

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"
)

// answers are what a disk's connections were answered, until one of the tables was written to. A
// run asks the same again and again; the database has to answer once.
type answers struct {
	doubted bool // each is asked for again, and compared; fixed

	mu      sync.Mutex
	epoch   epoch               // guarded by mu: goes up when something was written
	written [maxTables]epoch    // guarded by mu: the one that began when a table was last written to
	writing tables              // guarded by mu: by a commit that is under way
	known   map[question]answer // guarded by mu
	first   *firstAnswers       // guarded by mu; nil is none
	begun   epoch               // guarded by mu: with what was put on the disk
	begins  bool                // guarded by mu: new answers are first ones
}

// epoch is a time without a commit.
type epoch uint64

// now is an epoch that is none yet.
const now = ^epoch(0)

// answer is the rows of a query.
type answer struct {
	columns []string
	rows    [][]driver.Value
	epoch   epoch // in which it was asked
}

// firstAnswers are what is asked first of an image, each time when it is put on a disk.
type firstAnswers struct {
	mu    sync.Mutex
	known map[question]answer // guarded by mu
}

// question is a query with its arguments.
type question struct {
	text *text
	args string
}

// questionOf returns the question; ok is false if it has to be asked each time.
func questionOf(text *text, args []driver.NamedValue) (q question, ok bool) {
	var room [128]byte
	key := room[:0]
	for _, arg := range args {
		switch v := arg.Value.(type) {
		case int64:
			key = binary.AppendVarint(append(key, 'i'), v)
		case string:
			key = append(binary.AppendUvarint(append(key, 's'), uint64(len(v))), v...)
		case nil:
			key = append(key, '0')
		default:
			return question{}, false
		}
	}
	return question{text, string(key)}, true
}

// commit says that a commit writes to these tables, until it is forgotten what was answered of
// them.
func (a *answers) commit(to tables) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.writing |= to
}

// forget forgets what was answered of tables that were written to.
func (a *answers) forget(written tables) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgetLocked(written)
}

func (a *answers) forgetLocked(written tables) {
	a.epoch++
	a.writing = 0
	for written != 0 {
		a.written[written.takeOne()] = a.epoch
	}
}

// begin forgets everything: an image was put on the disk. What is answered until hasBegun is kept
// in first, if that is not nil.
func (a *answers) begin(first *firstAnswers) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgetLocked(everyTable)
	clear(a.known)
	a.first, a.begun, a.begins = first, a.epoch, first != nil
}

// hasBegun says that what is asked from now on differs from run to run.
func (a *answers) hasBegun() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begins = false
}

// version is another one when one of the tables was written to.
func (a *answers) version(of tables) epoch {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.versionLocked(of)
}

func (a *answers) versionLocked(of tables) (last epoch) {
	if of == everyTable {
		return a.epoch
	}
	for of != 0 {
		last = max(last, a.written[of.takeOne()])
	}
	return last
}

// pin asks what pins a snapshot, and returns the epoch whose state that is. ok is false where
// something was committed meanwhile.
func (a *answers) pin(ask func() (driver.Rows, error)) (rows driver.Rows, at epoch, ok bool, err error) {
	a.mu.Lock()
	at, ok = a.epoch, a.writing == 0
	a.mu.Unlock()
	rows, err = ask()
	a.mu.Lock()
	defer a.mu.Unlock()
	return rows, at, ok && a.epoch == at && a.writing == 0, err
}

// of returns the answer to a question, of now or of an earlier epoch that ask sees. What is asked
// while its tables are written to is not kept.
func (a *answers) of(q question, at epoch, ask func() (driver.Rows, error)) (driver.Rows, error) {
	a.mu.Lock()
	kept, ok := a.knownLocked(q, at)
	at = min(at, a.epoch)
	a.mu.Unlock()
	if ok && !a.doubted {
		return &answerRows{answer: kept}, nil
	}
	read, err := readAll(ask())
	if err != nil {
		return nil, err
	}
	read.epoch = at
	a.mu.Lock()
	defer a.mu.Unlock()
	version := a.versionLocked(q.text.tables)
	if version > at {
		return &answerRows{answer: read}, nil
	}
	if ok && !reflect.DeepEqual(kept.rows, read.rows) {
		return nil, fmt.Errorf("%s is answered %v from memory, and by the database %v", q.text.sql, kept.rows, read.rows)
	}
	if a.known == nil {
		a.known = make(map[question]answer)
	}
	a.known[q] = read
	if a.begins && version == a.begun {
		a.first.keep(q, read)
	}
	return &answerRows{answer: read}, nil
}

// knownLocked returns what is known of a question.
func (a *answers) knownLocked(q question, at epoch) (kept answer, ok bool) {
	version := a.versionLocked(q.text.tables)
	if at != now && (version > at || a.writing&q.text.tables != 0) {
		return answer{}, false
	}
	if kept, ok = a.known[q]; ok && version <= kept.epoch {
		return kept, true
	}
	if a.first != nil && version == a.begun {
		return a.first.of(q)
	}
	return answer{}, false
}

func (f *firstAnswers) keep(q question, is answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known == nil {
		f.known = make(map[question]answer)
	}
	f.known[q] = is
}

func (f *firstAnswers) of(q question) (answer, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept, ok := f.known[q]
	return kept, ok
}

// readAll reads the rows of a query, and closes them.
func readAll(rows driver.Rows, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	read := answer{columns: rows.Columns()}
	for {
		row := make([]driver.Value, len(read.columns))
		switch err := rows.Next(row); {
		case errors.Is(err, io.EOF):
			return read, rows.Close()
		case err != nil:
			return answer{}, errors.Join(err, rows.Close())
		}
		read.rows = append(read.rows, row)
	}
}

// answerRows hands an answer out.
type answerRows struct {
	answer
	next int
}

func (r *answerRows) Columns() []string { return r.columns }
func (r *answerRows) Close() error      { return nil }

func (r *answerRows) Next(dest []driver.Value) error {
	if r.next == len(r.rows) {
		return io.EOF
	}
	copy(dest, r.rows[r.next])
	r.next++
	return nil
}
