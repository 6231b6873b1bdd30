package inventory

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/rueidis"
)

// Memory is how much memory a server uses and may use, in bytes.
type Memory struct {
	Addr string
	Used int64
	Max  int64 // 0 means as much as the machine has
}

// Memory asks every primary how much memory it uses, and may use. It returns an error if a server
// doesn't say it.
func (s *Stock) Memory(ctx context.Context) ([]Memory, error) {
	client, err := s.conn()
	if err != nil {
		return nil, err
	}
	var all []Memory
	for addr, node := range client.Nodes() {
		text, err := ask(ctx, node, "replication")
		if err != nil {
			return nil, fmt.Errorf("redis %s: %w", addr, err)
		}
		if role, told := infoField(text, "role"); told && role != "master" {
			continue
		}
		if text, err = ask(ctx, node, "memory"); err != nil {
			return nil, fmt.Errorf("redis %s: %w", addr, err)
		}
		m := Memory{Addr: addr}
		for name, value := range map[string]*int64{"used_memory": &m.Used, "maxmemory": &m.Max} {
			digits, _ := infoField(text, name)
			if *value, err = strconv.ParseInt(digits, 10, 64); err != nil {
				return nil, fmt.Errorf("redis %s: INFO memory: %s is %q", addr, name, digits)
			}
		}
		all = append(all, m)
	}
	return all, nil
}

// ask reads a section of a server's INFO.
func ask(ctx context.Context, node rueidis.Client, section string) (string, error) {
	return node.Do(ctx, node.B().Info().Section(section).Build()).ToString()
}
