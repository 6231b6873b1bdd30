package settings

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/penstock/penstock/internal/atomicfile"
)

// kept is the file with the documents that were in force last.
type kept struct {
	Sum     string          // hex SHA-256 of Content: a file that is incomplete or was edited is not used
	Content json.RawMessage // keptContent
}

type keptContent struct {
	Offset     time.Duration // of the database's clock, so that ends are on time even while it can't be asked
	Documents  []keptDocument
	Amendments []Amendment // that wait to be recorded
}

type keptDocument struct {
	Name    string
	Version int64
	ID      string
	Body    json.RawMessage
}

// maxKept bounds the file that is read, in bytes: the documents have at most a megabyte each.
const maxKept = 8 << 20

// restore reads the documents that were last in force, and reports whether there was a valid file.
func (w *Watcher) restore() (documents map[string]Document, ok bool) {
	if w.cfg.Path == "" {
		return nil, false
	}
	content, err := readKept(w.cfg.Path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			w.log.Warn("settings kept on disk can't be used", "path", w.cfg.Path, "err", err)
		}
		return nil, false
	}
	w.mu.Lock()
	w.offset, w.amendments = content.Offset, content.Amendments
	w.mu.Unlock()
	documents = make(map[string]Document)
	for _, d := range content.Documents {
		documents[d.Name] = Document{d.Name, d.Version, d.ID, d.Body}
	}
	return documents, true
}

func readKept(path string) (*keptContent, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxKept {
		return nil, fmt.Errorf("%d bytes are more than it can have", info.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file kept
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	if sum(file.Content) != file.Sum {
		return nil, errors.New("its checksum is wrong")
	}
	content := new(keptContent)
	return content, json.Unmarshal(file.Content, content)
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

// keep writes the documents in force. A failure of the disk is logged, and doesn't affect requests.
func (w *Watcher) keep() {
	if w.cfg.Path == "" {
		return
	}
	w.mu.Lock()
	content := keptContent{Offset: w.offset, Amendments: slices.Clone(w.amendments)}
	for _, name := range slices.Sorted(maps.Keys(w.base)) {
		if d := w.base[name]; d.Version > 0 {
			content.Documents = append(content.Documents, keptDocument{d.Name, d.Version, d.ID, d.Body})
		}
	}
	w.mu.Unlock()
	if err := writeKept(w.cfg.Path, &content); err != nil {
		w.log.Error("settings not kept on disk", "path", w.cfg.Path, "err", err)
	}
}

// writeKept replaces the file. A reader, or a process that dies, finds the old file or the new one.
func writeKept(path string, content *keptContent) error {
	inner, err := json.Marshal(content)
	if err != nil {
		return err
	}
	text, err := json.Marshal(kept{sum(inner), inner})
	if err != nil {
		return err
	}
	return atomicfile.Write(path, text, 0o600)
}
