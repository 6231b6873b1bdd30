package inventory

import (
	"crypto/sha1"
	"embed"
	"encoding/hex"
	"fmt"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// script is one Lua script as Redis knows it.
type script struct {
	source string
	sha    string
	keys   int // how many of a shard's keys the script gets
}

// scripts are all scripts of the package. Each is the text of lua/shard.lua followed by
// lua/<name>.lua. The scripts that buyers don't wait for also have lua/books.lua in between.
type scripts struct {
	hold, find, confirm, settle, restock, levels script
	note, old, doom, forget                      script
	close, load, open                            script
}

// loadScripts reads the embedded scripts.
func loadScripts() (*scripts, error) {
	var heads [2]string
	for i, name := range []string{"shard", "books"} {
		head, err := luaFiles.ReadFile("lua/" + name + ".lua")
		if err != nil {
			return nil, fmt.Errorf("read lua/%s.lua: %w", name, err)
		}
		heads[i] = string(head) + "\n"
	}
	var s scripts
	for name, to := range map[string]*script{
		"hold": &s.hold, "find": &s.find, "confirm": &s.confirm, "settle": &s.settle, "restock": &s.restock,
		"levels": &s.levels, "note": &s.note, "old": &s.old, "doom": &s.doom, "forget": &s.forget,
		"close": &s.close, "load": &s.load, "open": &s.open,
	} {
		body, err := luaFiles.ReadFile("lua/" + name + ".lua")
		if err != nil {
			return nil, fmt.Errorf("read lua/%s.lua: %w", name, err)
		}
		source := heads[0]
		if to != &s.hold && to != &s.find && to != &s.note && to != &s.old {
			source += heads[1]
		}
		source += string(body)
		sum := sha1.Sum([]byte(source)) // the name that Redis gives a script; it is not used for security
		*to = script{source: source, sha: hex.EncodeToString(sum[:]), keys: len(keyNames)}
	}
	s.hold.keys = holdKeys
	return &s, nil
}
