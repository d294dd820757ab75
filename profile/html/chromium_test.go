package html

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/internal/needs"
)

// browser is a headless Chromium that is driven over a pair of pipes, by the Chrome DevTools Protocol
// (chromedevtools.github.io/devtools-protocol): JSON objects that end with a zero byte.
type browser struct {
	t   *testing.T
	ctx context.Context
	to  *os.File

	mu      sync.Mutex
	last    int
	waiting map[int]chan message
	events  []message
	changed chan struct{} // closed when there is another event
	gone    error         // why no more messages come
}

type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// startBrowser starts Chromium, which ends with the test. Without it the test is skipped.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path := needs.Tool(t, "chromium", "chromium")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	theirs, ours := pipe(t)
	from, answers := pipe(t)
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-pipe",
		"--user-data-dir="+filepath.Join(t.TempDir(), "profile"), "about:blank")
	cmd.ExtraFiles = []*os.File{theirs, answers} // descriptors 3 and 4, as --remote-debugging-pipe has them
	cmd.Stderr, cmd.WaitDelay = &said, 5*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	answers.Close()
	b := &browser{t: t, ctx: ctx, to: ours, waiting: make(map[int]chan message), changed: make(chan struct{})}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read(from)
	}()
	t.Cleanup(func() {
		b.send("", "Browser.close", nil)
		ours.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("chromium did not end: %v\n%s", err, tail(said.Bytes()))
		}
		cancel()
		from.Close()
		<-read
	})
	return b
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

func tail(b []byte) []byte { return b[max(0, len(b)-2000):] }

// read hands replies to who waits for them, and keeps the events.
func (b *browser) read(from *os.File) {
	in := bufio.NewReaderSize(from, 1<<20)
	for {
		line, err := in.ReadBytes(0)
		var m message
		if err == nil {
			err = json.Unmarshal(line[:len(line)-1], &m)
		}
		b.mu.Lock()
		switch {
		case err != nil:
			b.gone = err
			for _, c := range b.waiting {
				close(c)
			}
			b.waiting = nil
		case m.ID != 0 && b.waiting[m.ID] != nil:
			b.waiting[m.ID] <- m
			delete(b.waiting, m.ID)
		default:
			b.events = append(b.events, m)
			close(b.changed)
			b.changed = make(chan struct{})
		}
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// send sends a command and returns the channel on which its reply comes.
func (b *browser) send(session, method string, params any) (chan message, error) {
	p, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone != nil {
		return nil, b.gone
	}
	b.last++
	m, err := json.Marshal(message{ID: b.last, Session: session, Method: method, Params: p})
	if err != nil {
		return nil, err
	}
	c := make(chan message, 1)
	b.waiting[b.last] = c
	_, err = b.to.Write(append(m, 0))
	return c, err
}

// call sends a command and decodes its result.
func (b *browser) call(session, method string, params, result any) {
	b.t.Helper()
	c, err := b.send(session, method, params)
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	select {
	case m, ok := <-c:
		switch {
		case !ok:
			err = errors.New("chromium ended")
		case m.Error != nil:
			err = errors.New(m.Error.Message)
		case result != nil:
			err = json.Unmarshal(m.Result, result)
		}
	case <-b.ctx.Done():
		err = b.ctx.Err()
	}
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

// tab is a page of the browser.
type tab struct {
	b       *browser
	t       *testing.T
	session string
	width   int
}

// open opens a file in a tab of its own, which is that many pixels wide, and waits until it is loaded.
func (b *browser) open(t *testing.T, file string, width int) *tab {
	t.Helper()
	b.t = t
	var target struct{ TargetID string }
	b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	p := &tab{b, t, attached.SessionID, width}
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		p.call(domain+".enable", nil, nil)
	}
	p.emulate("light")
	p.resize(width)
	p.call("Page.navigate", map[string]any{"url": "file://" + file}, nil)
	b.wait(func() bool { return len(p.seen("Page.loadEventFired")) > 0 })
	t.Cleanup(func() {
		b.t = t
		b.call("", "Target.closeTarget", map[string]any{"targetId": target.TargetID}, nil)
	})
	return p
}

// wait waits until something is so, which events make it.
func (b *browser) wait(so func() bool) {
	b.t.Helper()
	for {
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		if so() {
			return
		}
		select {
		case <-changed:
		case <-b.ctx.Done():
			b.t.Fatal(b.ctx.Err())
		}
	}
}

func (p *tab) call(method string, params, result any) {
	p.t.Helper()
	p.b.call(p.session, method, params, result)
}

// seen returns the parameters of the events of some kind.
func (p *tab) seen(method string) (params []string) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	for _, e := range p.b.events {
		if e.Session == p.session && e.Method == method {
			params = append(params, string(e.Params))
		}
	}
	return params
}

// emulate sets the colour scheme; motion is reduced, so that what a key does is done at once.
func (p *tab) emulate(scheme string) {
	p.t.Helper()
	p.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{
		{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"},
	}}, nil)
}

func (p *tab) resize(width int) {
	p.t.Helper()
	p.width = width
	p.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
}

// eval returns what an expression of JavaScript comes to, after the page was drawn again.
func eval[T any](p *tab, expr string) (v T) {
	p.t.Helper()
	var out struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	p.call("Runtime.evaluate", map[string]any{
		"expression":   "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r))).then(() => (" + expr + "))",
		"awaitPromise": true, "returnByValue": true,
	}, &out)
	if out.ExceptionDetails != nil {
		p.t.Fatalf("%s: %s", expr, out.ExceptionDetails)
	}
	if err := json.Unmarshal(out.Result.Value, &v); err != nil {
		p.t.Fatalf("%s: %s: %v", expr, out.Result.Value, err)
	}
	return v
}

// press presses keys one after the other: characters, or names as Tab and ArrowLeft.
func (p *tab) press(keys ...string) {
	p.t.Helper()
	codes := map[string]int{"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Backspace": 8}
	for _, key := range keys {
		down := map[string]any{"type": "keyDown", "key": key}
		if code := codes[key]; code != 0 {
			down["windowsVirtualKeyCode"] = code
			down["code"] = key
			if key == "Enter" {
				down["text"] = "\r"
			}
		} else {
			down["text"] = key
		}
		p.call("Input.dispatchKeyEvent", down, nil)
		p.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": codes[key]}, nil)
	}
}

// mouse sends an event of the mouse.
func (p *tab) mouse(kind string, x, y float64, more map[string]any) {
	p.t.Helper()
	params := map[string]any{"type": kind, "x": x, "y": y}
	for k, v := range more {
		params[k] = v
	}
	p.call("Input.dispatchMouseEvent", params, nil)
}
