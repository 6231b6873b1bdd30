//go:build unix

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// TestSignals_EndACommand: each signal ends the context, and also a command that doesn't end by
// itself.
func TestSignals_EndACommand(t *testing.T) {
	for s, code := range map[syscall.Signal]int{syscall.SIGHUP: 129, syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		if signal.Ignored(s) { // tests that run under nohup ignore SIGHUP
			continue
		}
		ended := make(chan int, 1)
		ctx, in := catchSignals(context.Background(), func(code int) { ended <- code })
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		if got := <-ended; got != code || in.code() != code {
			t.Errorf("%v: exit code %d, %d", s, got, in.code())
		}
		in.stop()
	}
}

// TestSignals_LeaveWhatLasts: a command that has called lasts goes on after a signal, until a
// second ^C.
func TestSignals_LeaveWhatLasts(t *testing.T) {
	ended := make(chan int, 1)
	ctx, in := catchSignals(context.Background(), func(code int) { ended <- code })
	defer in.stop()
	lasts(ctx)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT} {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		if s != syscall.SIGINT && len(ended) > 0 {
			t.Errorf("%v ends it", s)
		}
	}
	if got := <-ended; got != exitInterrupted {
		t.Errorf("exit code %d", got)
	}
}
