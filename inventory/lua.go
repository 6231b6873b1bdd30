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
	source    string
	sha       string
	forBuyers bool // a buyer waits for it
}

// scripts are all scripts of the package; each field is lua/<name>.lua behind lua/shard.lua.
type scripts struct {
	hold, find, confirm, settle, restock, levels script
	note, old, doom                              script
	close, load, open                            script
}

// loadScripts reads the embedded scripts.
func loadScripts() (*scripts, error) {
	shard, err := luaFiles.ReadFile("lua/shard.lua")
	if err != nil {
		return nil, fmt.Errorf("read lua/shard.lua: %w", err)
	}
	var s scripts
	for name, to := range map[string]*script{
		"hold": &s.hold, "find": &s.find, "confirm": &s.confirm, "settle": &s.settle, "restock": &s.restock, "levels": &s.levels,
		"note": &s.note, "old": &s.old, "doom": &s.doom,
		"close": &s.close, "load": &s.load, "open": &s.open,
	} {
		body, err := luaFiles.ReadFile("lua/" + name + ".lua")
		if err != nil {
			return nil, fmt.Errorf("read lua/%s.lua: %w", name, err)
		}
		source := string(shard) + "\n" + string(body)
		sum := sha1.Sum([]byte(source)) // the name under which Redis keeps a script; nothing is secured by it
		*to = script{source: source, sha: hex.EncodeToString(sum[:])}
	}
	s.hold.forBuyers, s.find.forBuyers = true, true
	return &s, nil
}
