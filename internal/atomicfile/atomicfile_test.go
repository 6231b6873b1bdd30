package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// platter is a disk as a loss of power leaves it: of a file what was synced, of a directory the
// names that were synced. A name that was not synced may be there or not.
type platter struct {
	path   string
	synced map[string][]byte // what a file has for sure, by its name when it was synced
	names  [][]byte          // what may stand at path after a loss of power now
	steps  []string
	fails  int // the step that fails, and all after it
}

var errPower = errors.New("the power is gone")

func (p *platter) step(name string) error {
	p.steps = append(p.steps, name)
	if len(p.steps) >= p.fails {
		return errPower
	}
	return nil
}

func (p *platter) disk() disk {
	return disk{
		sync: func(f *os.File) error {
			if f.Name() == filepath.Dir(p.path) {
				if err := p.step("sync the directory"); err != nil {
					return err
				}
				p.names = p.names[len(p.names)-1:]
				return f.Sync()
			}
			if err := p.step("sync the file"); err != nil {
				return err
			}
			text, err := os.ReadFile(f.Name())
			p.synced[f.Name()] = text
			return errors.Join(err, f.Sync())
		},
		rename: func(from, to string) error {
			if err := p.step("rename"); err != nil {
				return err
			}
			p.names = append(p.names, p.synced[from])
			return os.Rename(from, to)
		},
	}
}

// TestFile_SurvivesALossOfPower lets the power go before each step, and after the last one.
func TestFile_SurvivesALossOfPower(t *testing.T) {
	steps := []string{"sync the file", "rename", "sync the directory"}
	for fails := 1; fails <= len(steps)+1; fails++ {
		t.Run(fmt.Sprintf("step %d does not happen", fails), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := Write(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			p := &platter{path: path, synced: map[string][]byte{}, names: [][]byte{[]byte("old")}, fails: fails}
			f, err := create(path, 0o600, p.disk())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write([]byte("new")); err != nil {
				t.Fatal(err)
			}
			err = f.Commit()
			if want := steps[:min(fails, len(steps))]; !slices.Equal(p.steps, want) {
				t.Fatalf("steps: %q, want %q", p.steps, want)
			}
			if fails <= len(steps) != errors.Is(err, errPower) {
				t.Errorf("error of Commit: %v", err)
			}
			for _, text := range p.names {
				if s := string(text); s != "old" && s != "new" {
					t.Errorf("after the loss the file may be %q", s)
				}
				if err == nil && string(text) != "new" {
					t.Errorf("Commit returned nil, and after the loss the file may be %q", text)
				}
			}
			want := "old" // what a reader of the running machine sees
			if fails > 2 {
				want = "new"
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != want {
				t.Errorf("the file is %q, %v; want %q", text, err, want)
			}
			only(t, path)
		})
	}
}

// only fails the test if anything stands beside the file.
func only(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("in the directory: %v, %v", entries, err)
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"a long first text", "short", ""} {
		if err := Write(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("read %q, %v; want %q", got, err, text)
		}
		only(t, path)
	}
	t.Run("a directory that isn't there is an error", func(t *testing.T) {
		if err := Write(filepath.Join(t.TempDir(), "none", "file"), nil, 0o600); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error: %v", err)
		}
	})
}

// TestCreate_Permissions: others can't read it while it is written, nor afterwards, even if they
// could read the file before it.
func TestCreate_Permissions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	private := func(name string) {
		t.Helper()
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
	private(f.temp.Name())
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	private(path)
}

func TestFile_Discard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("new")); err != nil {
		t.Fatal(err)
	}
	unfinished := filepath.Base(f.temp.Name())
	if !Unfinished(unfinished, "file") || Unfinished(unfinished, "other") || Unfinished("file", "file") {
		t.Errorf("Unfinished does not know %s", unfinished)
	}
	if err := errors.Join(f.Discard(), f.Discard()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || !bytes.Equal(text, []byte("old")) {
		t.Errorf("the file is %q, %v", text, err)
	}
	only(t, path)
}
