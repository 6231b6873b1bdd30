package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/wait"
)

// topCommand shows a running installation.
func topCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Live view in a terminal: problems, activities with rates and stock, nodes and servers",
		Long: `Live view of a running installation in a terminal, once a second: what isn't normal, activities with rates and stock,
nodes and servers, limits and switches.

  1 or h   what isn't normal, with the line that deals with it, and a summary
  2 or t   tonight: the activities and their items
  3 or m   machines: nodes, servers, queue and shards
  4 or l   limits: what they refuse, callers, switches
  ↑ ↓      scroll, also by page keys, j and k
  q        quit, as esc and ^C do

While nobody answers, the view stays, says how old its data is, and tries again. With --once one frame is printed as text, or
with -o json the whole snapshot; so it is where stdout is no terminal. On a terminal that can't be drawn on (TERM=dumb) frames follow
one another.

Exits 1 when the server says no, 4 when no server can be reached.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := newSession(cmd)
			if err != nil {
				return err
			}
			feed := &liveFeed{client: s.adminClient, types: []string{live.EventLive}, quiet: 5 * time.Second}
			switch stdout := screenOf(os.Stdout, os.Getenv); {
			case once || s.printer.json || !isTerminal(os.Stdout) || cmd.OutOrStdout() != io.Writer(os.Stdout):
				err = s.liveOnce()
			case !stdout.redraws:
				err = s.liveFrames(feed)
			default:
				err = s.liveScreen(feed, stdout)
			}
			if err != nil {
				return failure(err)
			}
			return nil
		},
	}
	addAdminFlags(cmd)
	cmd.Flags().BoolVar(&once, "once", false, "print one frame and end")
	return cmd
}

// liveOnce prints the live view as it is now.
func (s *session) liveOnce() error {
	snapshot := new(live.Snapshot)
	text, err := s.read(s.cmd.Context(), snapshot, get("live"))
	if err != nil {
		return err
	}
	if s.json {
		return s.value(text)
	}
	view := topView{
		snapshot: snapshot, width: columns(os.Stdout), now: time.Now(), screen: screenOf(os.Stdout, os.Getenv),
		plain: !unicodeTerminal(os.Getenv),
	}
	_, err = io.WriteString(s.out, strings.Join(view.whole(), "\n")+"\n")
	return err
}

// plainWidth is the width of a frame if the width is unknown.
const plainWidth = 100

// columns returns how wide the terminal behind f is, or what COLUMNS says.
func columns(f *os.File) int {
	if width, _, err := term.GetSize(f.Fd()); err == nil && width > 0 {
		return width
	}
	if width, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && width > 0 {
		return width
	}
	return plainWidth
}

// unicodeTerminal reports whether a terminal shows characters beyond ASCII, as the locale says
// (POSIX: the first that is set).
func unicodeTerminal(environ func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := strings.ToLower(environ(name)); locale != "" {
			return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
		}
	}
	return true // without a locale, most terminals do
}

// liveFrames prints a frame every two seconds, for a terminal that can't redraw.
func (s *session) liveFrames(feed *liveFeed) error {
	lasts(s.cmd.Context())
	view := topView{width: columns(os.Stdout), plain: true}
	for ctx := s.cmd.Context(); ; {
		snapshot, err := feed.poll(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			view.snapshot, view.received, view.trouble = snapshot, time.Now(), ""
		case view.snapshot == nil || codeOf(err) != exitDependency:
			return err
		default:
			view.trouble = err.Error()
		}
		view.now = time.Now()
		if _, err := io.WriteString(s.out, strings.Join(view.whole(), "\n")+"\n\n"); err != nil {
			return err
		}
		if !wait.For(ctx, 2*time.Second) {
			return nil
		}
	}
}

// liveScreen shows the live view on a terminal until the user quits.
func (s *session) liveScreen(feed *liveFeed, on screen) error {
	ctx := s.cmd.Context()
	lasts(ctx) // the terminal must be restored before the end
	// The first poll comes before anything is drawn, so that an error is shown on the plain
	// terminal.
	first, err := feed.poll(ctx)
	if err != nil {
		return err
	}
	model := newTopModel(topView{screen: on, plain: !unicodeTerminal(os.Getenv)}, time.Now)
	model.see(sighting{snapshot: first})
	program := tea.NewProgram(model, tea.WithContext(ctx), tea.WithoutSignalHandler())
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		err := feed.watch(watching, func(one sighting) { program.Send(one) })
		if err != nil {
			program.Quit()
		}
		ended <- err
	}()
	_, err = program.Run()
	cancel()
	if refused := <-ended; refused != nil {
		return refused
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, tea.ErrInterrupted) {
		return fmt.Errorf("draw on the terminal: %w", err)
	}
	return nil
}

// topModel is the live view on a terminal.
type topModel struct {
	view   topView
	clock  func() time.Time
	height int
	scroll int
}

func newTopModel(view topView, clock func() time.Time) *topModel {
	m := &topModel{view: view, clock: clock, height: 24}
	m.view.width, m.view.now = 80, clock()
	return m
}

// second is the message that a second has passed.
type second struct{}

func nextSecond() tea.Cmd { return tea.Tick(time.Second, func(time.Time) tea.Msg { return second{} }) }

// Init implements tea.Model.
func (m *topModel) Init() tea.Cmd { return nextSecond() }

// Update implements tea.Model.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	m.view.now = m.clock()
	switch msg := msg.(type) {
	case second:
		return m, nextSecond()
	case sighting:
		m.see(msg)
	case tea.WindowSizeMsg:
		m.view.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		if m.press(msg.String()) {
			return m, tea.Quit
		}
	}
	return m, nil
}

// see takes the feed's newest sighting into the model.
func (m *topModel) see(one sighting) {
	if one.err != nil {
		m.view.trouble = one.err.Error()
		return
	}
	m.view.snapshot, m.view.received, m.view.trouble = one.snapshot, m.clock(), ""
}

// press acts on a key, and reports whether the key is to quit.
func (m *topModel) press(key string) (quit bool) {
	page := max(m.height-8, 1)
	switch key {
	case "q", "Q", "esc", "ctrl+c", "ctrl+d":
		return true
	case "1", "h":
		m.show(pageHeader)
	case "2", "t":
		m.show(pageTonight)
	case "3", "m":
		m.show(pageMachines)
	case "4", "l":
		m.show(pageLimits)
	case "tab", "right":
		m.show((m.view.page + 1) % pages)
	case "shift+tab", "left":
		m.show((m.view.page + pages - 1) % pages)
	case "down", "j":
		m.scroll++
	case "up", "k":
		m.scroll--
	case "pgdown", "space":
		m.scroll += page
	case "pgup":
		m.scroll -= page
	case "home", "g":
		m.scroll = 0
	case "end", "G":
		m.scroll = 1 << 20 // frame limits it to the last line
	}
	return false
}

func (m *topModel) show(page topPage) { m.view.page, m.scroll = page, 0 }

// View implements tea.Model.
func (m *topModel) View() tea.View {
	var lines []string
	lines, m.scroll = m.view.frame(m.height, m.scroll)
	view := tea.NewView(strings.Join(lines, "\n"))
	view.AltScreen = true
	view.DisableBracketedPasteMode = true // there is no text input
	return view
}
