package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}` + "\r\n"

type request struct {
	Execute   string
	Arguments json.RawMessage
	ID        uint64
}

// serve answers each request with what answer returns; it greets first and accepts the negotiation.
func serve(t *testing.T, answer func(request) string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { theirs.Close() })
	go func() {
		io.WriteString(theirs, greeting)
		lines := bufio.NewScanner(theirs)
		for lines.Scan() {
			var r request
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				t.Errorf("request %q: %v", lines.Bytes(), err)
				return
			}
			reply := fmt.Sprintf(`{"return": {}, "id": %d}`, r.ID)
			if r.Execute != "qmp_capabilities" {
				reply = answer(r)
			}
			if reply != "" {
				io.WriteString(theirs, reply+"\r\n")
			}
		}
	}()
	return ours
}

func TestExecute(t *testing.T) {
	var mu sync.Mutex
	var held []request
	conn := serve(t, func(r request) string {
		switch r.Execute {
		case "first": // answered after the second, with an event between them
			mu.Lock()
			held = append(held, r)
			mu.Unlock()
			return ""
		case "second":
			mu.Lock()
			defer mu.Unlock()
			return fmt.Sprintf(`{"return": {"n": 2}, "id": %d}`+"\r\n"+
				`{"event": "SHUTDOWN", "data": {"guest": true}, "timestamp": {"seconds": 5, "microseconds": 7}}`+"\r\n"+
				`{"return": {"n": 1}, "id": %d}`, r.ID, held[0].ID)
		}
		return fmt.Sprintf(`{"error": {"class": "CommandNotFound", "desc": "no such"}, "id": %d}`, r.ID)
	})
	events := make(chan Event, 1)
	c, err := Dial(t.Context(), conn, func(e Event) { events <- e })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	var one, two struct{ N int }
	first := make(chan error, 1)
	go func() { first <- c.Execute(t.Context(), "first", nil, &one) }()
	for waiting := false; !waiting; {
		mu.Lock()
		waiting = len(held) == 1
		mu.Unlock()
	}
	if err := c.Execute(t.Context(), "second", map[string]int{"x": 1}, &two); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil || one.N != 1 || two.N != 2 {
		t.Errorf("replies %d and %d, error %v", one.N, two.N, err)
	}
	if e := <-events; e.Name != "SHUTDOWN" || string(e.Data) != `{"guest": true}` || !e.Time.Equal(time.Unix(5, 7000)) {
		t.Errorf("event %+v", e)
	}
	var refusal *Error
	if err := c.Execute(t.Context(), "nonsense", nil, nil); !errors.As(err, &refusal) || refusal.Class != "CommandNotFound" {
		t.Errorf("nonsense: %v", err)
	}
}

func TestDeadline(t *testing.T) {
	c, err := Dial(t.Context(), serve(t, func(request) string { return "" }), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Execute(ctx, "stop", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestNoGreeting(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, ours, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestServerGone(t *testing.T) {
	for _, say := range []string{"", "hello\n", `{"return": {}}` + "\n", greeting + greeting, `{"QMP": {}, "event": "x"}` + "\n"} {
		ours, theirs := net.Pipe()
		go func() {
			io.WriteString(theirs, say)
			theirs.Close()
		}()
		if _, err := Dial(t.Context(), ours, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("after %q: %v", say, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	seeds := []string{greeting, `{"return": {}, "id": 1}`, `{"error": {"class": "c", "desc": "d"}, "id": 2}`,
		`{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}`}
	for _, seed := range seeds {
		if _, err := decode([]byte(seed)); err != nil {
			f.Fatalf("seed %q does not decode: %v", seed, err)
		}
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := decode(line)
		if err != nil && !errors.Is(err, ErrProtocol) {
			t.Errorf("error %v of another kind", err)
		}
		if err == nil && m.Greeting == nil && m.Event == "" && m.Return == nil && m.Error == nil {
			t.Errorf("%q decodes to nothing", line)
		}
	})
}
