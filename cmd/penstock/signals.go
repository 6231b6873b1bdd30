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

// interruptGrace is how long a command may take to end after a signal, when it has nothing to bring
// to an end: to say what is known of a request under way.
const interruptGrace = time.Second

// interrupts is what the signals have said.
type interrupts struct {
	patient atomic.Bool  // the command brings its work to an end by itself
	got     atomic.Int32 // the first signal's number; 0 before
	stop    func()       // lets go of the signals
}

// interruptsKey is where a context has them.
type interruptsKey struct{}

// catchSignals returns a context that ends with the first of SIGINT, SIGTERM and SIGHUP. All three
// mean the same: a terminal that is closed must not cost more than a supervisor that stops the
// process. A SIGHUP that is ignored already, as nohup does it, stays ignored.
//
// A command that doesn't end soon after is ended here, unless it has called lasts: it may hang in a
// read from a pipe that nobody writes. A second ^C ends every command at once.
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
			case s := <-signals: // SIGTERM comes twice from supervisors that mean the process and its group
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

// code is the exit code of a command that a signal has ended, as shells have it.
func (in *interrupts) code() int { return 128 + int(in.got.Load()) }

// lasts says that the command ends by itself when ctx does, however long that takes.
func lasts(ctx context.Context) {
	if in, ok := ctx.Value(interruptsKey{}).(*interrupts); ok {
		in.patient.Store(true)
	}
}

// keepsPrivate says that the files which the process makes are its user's alone. In a test, whose
// process makes other files too, it does nothing.
func keepsPrivate(ctx context.Context) {
	if _, ok := ctx.Value(interruptsKey{}).(*interrupts); ok {
		privateFiles()
	}
}
