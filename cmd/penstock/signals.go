package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// interruptGrace is how long an ordinary command may take to end after a signal, so that it can
// report on a request in flight.
const interruptGrace = time.Second

// interrupts records the signals that came.
type interrupts struct {
	patient atomic.Bool  // the command finishes its work by itself, so it isn't ended
	got     atomic.Int32 // number of the first signal; 0 before it
	stop    func()       // stops catching signals
}

// interruptsKey is the key of interrupts in a context.
type interruptsKey struct{}

// catchSignals returns a context that ends with the first of SIGINT, SIGTERM and SIGHUP. All three
// mean the same: closing a terminal stops a process cleanly, just as a supervisor does. If SIGHUP
// is ignored already, as with nohup, it stays ignored.
//
// If a command doesn't end soon, exit ends it, because it may hang in a read from a pipe. A command
// that has called lasts is not ended so. A second ^C ends every command at once.
func catchSignals(ctx context.Context, exit func(code int)) (context.Context, *interrupts) {
	in := new(interrupts)
	ctx, cancel := context.WithCancel(context.WithValue(ctx, interruptsKey{}, in))
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	done := make(chan struct{})
	in.stop = sync.OnceFunc(func() {
		signal.Stop(signals)
		close(done)
	})
	go func() {
		var first os.Signal
		select {
		case first = <-signals:
		case <-done:
			return
		}
		if number, ok := first.(syscall.Signal); ok {
			in.got.Store(int32(number))
		}
		cancel()
		grace := time.NewTimer(interruptGrace)
		for {
			select {
			case s := <-signals: // some supervisors send SIGTERM twice: to the process and to its group
				if s == os.Interrupt {
					exit(exitInterrupted)
				}
			case <-done:
				return
			case <-grace.C:
				if !in.patient.Load() {
					exit(in.code())
				}
			}
		}
	}()
	return ctx, in
}

// code is the exit code of a command that a signal has ended, as in shells.
func (in *interrupts) code() int { return 128 + int(in.got.Load()) }

// lasts declares that the command ends by itself after ctx has ended, no matter how long that
// takes.
func lasts(ctx context.Context) {
	if in, ok := ctx.Value(interruptsKey{}).(*interrupts); ok {
		in.patient.Store(true)
	}
}

// keepsPrivate makes new files of the process readable by its user only. In a test it does nothing,
// since the test's process makes other files, too.
func keepsPrivate(ctx context.Context) {
	if _, ok := ctx.Value(interruptsKey{}).(*interrupts); ok {
		privateFiles()
	}
}
