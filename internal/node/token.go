package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/penstock/penstock/seckill"
)

// makeToken tries to make the first admin token until the database answers.
func (n *Node) makeToken(ctx context.Context) {
	pause := newBackoff()
	for told := false; ; told = true {
		err := n.tryToken(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !told {
			n.log.Warn("can't look for an admin token; trying again", "err", err)
		}
		if !pause.Wait(ctx) {
			return
		}
	}
}

// tryToken makes the first admin token, unless there is one.
func (n *Node) tryToken(ctx context.Context) error {
	store := n.servers.database
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Sale.StoreTimeout)
	defer cancel()
	tokens, err := store.Tokens(ctx)
	if err != nil {
		return fmt.Errorf("read the admin tokens: %w", err)
	}
	if len(tokens) > 0 {
		return nil
	}
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return fmt.Errorf("make an admin token: %w", err)
	}
	token := "pst_" + base64.RawURLEncoding.EncodeToString(secret[:])
	first := seckill.Token{ID: "first", Name: "first", Role: seckill.RoleAdmin, Hash: sha256.Sum256([]byte(token))}
	_, err = store.AddToken(ctx, first, 0, seckill.Author{Actor: "penstock", Reason: "first start"})
	if errors.Is(err, seckill.ErrExists) { // another process was faster
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep the admin token: %w", err)
	}
	if n.cfg.OnFirstToken != nil {
		n.cfg.OnFirstToken(token)
	}
	return nil
}
