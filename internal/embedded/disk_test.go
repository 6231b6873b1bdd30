package embedded_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/penstock/penstock/internal/embedded"
	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/proof/kafkatest"
)

// crashImage copies a data directory that is in use: what kill -9 would leave of it now.
func crashImage(t *testing.T, dir string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return image
}

// segments lists the segment files of the queue's only partition, oldest first.
func segments(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "queue", "partitions", "*", "*.dat"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	base := func(file string) int {
		n, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(file), ".dat"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	slices.SortFunc(files, func(a, b string) int { return base(a) - base(b) })
	return files
}

// size returns the bytes of all files below a directory.
func size(t testing.TB, dir string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

// damage damages the newest segment as a power failure without fsync would.
type damage struct {
	name string
	do   func(file string, size int64) error
}

func damages() []damage {
	overwrite := func(from int64) func(string, int64) error {
		return func(file string, size int64) error {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt(make([]byte, 40), size-from)
			return err
		}
	}
	return []damage{
		{"one byte short", func(file string, size int64) error { return os.Truncate(file, size-1) }},
		{"half a header", func(file string, size int64) error { return os.Truncate(file, 30) }},
		{"zeros at the end", overwrite(40)},
		{"zeros appended", overwrite(0)},
		{"empty", func(file string, _ int64) error { return os.Truncate(file, 0) }},
		{"gone", func(file string, _ int64) error { return os.Remove(file) }},
	}
}

// TestL2_TornTailIsReadAgain damages the newest segment. Before a worker comes, it produces as many
// records as were lost, so the worker's position lies within the log again. The batches before the
// damage stay, the log reports the cut, and no later record is skipped.
func TestL2_TornTailIsReadAgain(t *testing.T) {
	source := embedded.WithSegmentBytes(embedded.Config{DataDir: filepath.Join(t.TempDir(), "data"), Partitions: 1}, 4<<10)
	books := new(kafkatest.Books)
	queue := kafkatest.Open(t, queueConfig(open(t, source)), books)
	const records = 100
	for n := range records {
		kafkatest.Produce(t, queue, n, n+1) // a batch each
	}
	kafkatest.Consume(t, queue, books, records)
	before := books.Now()[0]
	for _, damage := range damages() {
		t.Run(damage.name, func(t *testing.T) {
			logged, logger := newLog()
			cfg := source
			cfg.DataDir, cfg.Logger = crashImage(t, source.DataDir), logger
			files := segments(t, cfg.DataDir)
			newest := files[len(files)-1]
			info, err := os.Stat(newest)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage.do(newest, info.Size()); err != nil {
				t.Fatal(err)
			}
			books.Set(before)
			queue := kafkatest.Open(t, queueConfig(open(t, cfg)), books)
			kafkatest.Produce(t, queue, records, 2*records)
			end := kafkatest.Mark(t, queue)
			seen := kafkatest.ConsumeUntil(t, queue, books, end)
			for n := records; n < 2*records; n++ {
				if seen[kafkatest.Key(n)] != 1 {
					t.Fatalf("record %d was polled %d times", n, seen[kafkatest.Key(n)])
				}
			}
			lost := 2*records + 1 - end[0].Next
			if len(files) < 3 || lost < 0 || lost > records/2 {
				t.Fatalf("%d segments, end %v", len(files), end)
			}
			if stats := queue.Stats(); (stats.DataLoss > 0) != (lost > 0) {
				t.Errorf("%d records lost, stats: %+v", lost, stats)
			}
			t.Logf("%d of %d records lost; logged: %s", lost, records, logged)
		})
	}
}

// TestLostLogBeginsAnew deletes the whole log, and the books continue.
func TestLostLogBeginsAnew(t *testing.T) {
	source := embedded.Config{DataDir: filepath.Join(t.TempDir(), "data"), Partitions: 1}
	books := new(kafkatest.Books)
	queue := kafkatest.Open(t, queueConfig(open(t, source)), books)
	kafkatest.Produce(t, queue, 0, 100)
	kafkatest.Consume(t, queue, books, 100)
	cfg := source
	cfg.DataDir = crashImage(t, source.DataDir)
	if err := os.RemoveAll(filepath.Join(cfg.DataDir, "queue", "partitions")); err != nil {
		t.Fatal(err)
	}
	queue = kafkatest.Open(t, queueConfig(open(t, cfg)), books)
	kafkatest.Produce(t, queue, 100, 250) // behind the position in the books
	if seen := kafkatest.ConsumeUntil(t, queue, books, kafkatest.Mark(t, queue)); len(seen) != 150 {
		t.Errorf("%d of 150 records came", len(seen))
	}
	if queue.Stats().DataLoss == 0 {
		t.Errorf("stats: %+v", queue.Stats())
	}
}

// TestQueueWithoutItsIndexIsRefused deletes the index of a queue that has records.
func TestQueueWithoutItsIndexIsRefused(t *testing.T) {
	source := embedded.Config{DataDir: filepath.Join(t.TempDir(), "data")}
	kafkatest.Produce(t, kafkatest.Open(t, queueConfig(open(t, source)), new(kafkatest.Books)), 0, 10)
	for _, name := range []string{"meta.json", "topics.json"} {
		cfg := embedded.Config{DataDir: crashImage(t, source.DataDir)}
		if err := os.Remove(filepath.Join(cfg.DataDir, "queue", name)); err != nil {
			t.Fatal(err)
		}
		if _, err := embedded.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// TestL8_TrimBoundsTheDisk produces and consumes many times more than the log may keep, and crashes
// now and then.
func TestL8_TrimBoundsTheDisk(t *testing.T) {
	const segmentBytes, round, rounds = 64 << 10, 2_000, 12
	cfg := embedded.WithSegmentBytes(embedded.Config{DataDir: filepath.Join(t.TempDir(), "data"), Partitions: 2}, segmentBytes)
	books := new(kafkatest.Books)
	queue := kafkatest.Open(t, queueConfig(open(t, cfg)), books)
	var perRound int64
	kafkatest.Produce(t, queue, 0, 1)
	for r := range rounds {
		before := size(t, filepath.Join(cfg.DataDir, "queue", "partitions"))
		kafkatest.Produce(t, queue, r*round, (r+1)*round)
		perRound = size(t, filepath.Join(cfg.DataDir, "queue", "partitions")) - before
		kafkatest.Consume(t, queue, books, round)
		if err := queue.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		// A partition keeps the segment with its last record, which may be one batch over the
		// limit.
		if left, most := size(t, filepath.Join(cfg.DataDir, "queue", "partitions")), int64(2*(segmentBytes+perRound)); left > most {
			t.Fatalf("round %d: %d bytes are left, want at most %d", r, left, most)
		}
		if stats := queue.Stats(); stats.Missing != 0 || stats.DataLoss != 0 {
			t.Fatalf("round %d: stats: %+v", r, stats)
		}
		if r%4 == 3 {
			cfg.DataDir = crashImage(t, cfg.DataDir)
			queue = kafkatest.Open(t, queueConfig(open(t, cfg)), books)
		}
	}
	t.Logf("%d bytes per record", perRound/round)
}

// TestDeadConsumerDoesNotDelayTheNext closes the brokers while a worker processes records and can't
// leave its group. The next start must not wait until the group drops that worker.
func TestDeadConsumerDoesNotDelayTheNext(t *testing.T) {
	cfg := embedded.Config{DataDir: filepath.Join(t.TempDir(), "data")}
	patient := func(parts *embedded.Parts) kafka.Config {
		cfg := queueConfig(parts)
		cfg.SessionTimeout = 2 * kafkatest.Patience // more than the test has
		cfg.RebalanceTimeout = cfg.SessionTimeout
		return cfg
	}
	books := new(kafkatest.Books)
	parts := open(t, cfg)
	queue := kafkatest.Open(t, patient(parts), books)
	kafkatest.Produce(t, queue, 0, 100)
	if _, err := queue.Poll(kafkatest.Context(t)); err != nil {
		t.Fatal(err)
	}
	closeParts(t, parts)
	kafkatest.Consume(t, kafkatest.Open(t, patient(open(t, cfg)), books), books, 100)
}
