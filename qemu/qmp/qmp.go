// Package qmp is a client of the QEMU Machine Protocol (QEMU, docs/interop/qmp-spec.rst): JSON objects, one a line.
package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// MaxMessage bounds one message in bytes.
const MaxMessage = 1 << 20

// DefaultTimeout bounds a wait whose context has no deadline.
const DefaultTimeout = 10 * time.Second

var (
	ErrProtocol = errors.New("not a QMP message")
	ErrClosed   = errors.New("the monitor is closed")
)

// Error is the server's refusal of a command.
type Error struct {
	Command string
	Class   string // such as CommandNotFound
	Desc    string
}

func (e *Error) Error() string { return fmt.Sprintf("QMP %s: %s (%s)", e.Command, e.Desc, e.Class) }

// Event is something that happened in the VM.
type Event struct {
	Name string          // such as SHUTDOWN
	Data json.RawMessage // its members, or nil
	Time time.Time       // the server's clock
}

// message is whatever a server sends: one of greeting, event and reply.
type message struct {
	Greeting *struct {
		Version json.RawMessage `json:"version"`
	} `json:"QMP"`

	Event     string          `json:"event"`
	Data      json.RawMessage `json:"data"`
	Timestamp struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`

	ID     *uint64         `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// decode reads one line.
func decode(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	kinds := 0
	for _, is := range []bool{m.Greeting != nil, m.Event != "", m.Return != nil, m.Error != nil} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		return message{}, fmt.Errorf("%w: %.80q is not one of greeting, event, return and error", ErrProtocol, line)
	}
	return m, nil
}

// Client is a connection to a QMP server. Its methods may be called from any goroutine.
type Client struct {
	conn    io.ReadWriteCloser
	onEvent func(Event)
	ready   chan struct{} // closed by the greeting
	done    chan struct{} // closed when reading has ended

	writing sync.Mutex

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan message
	err     error // why reading ended
}

// Dial takes over conn, waits for the server's greeting and leaves negotiation mode. onEvent, if not nil, is called for
// each event, in order, from the goroutine that reads; it must not call the client.
func Dial(ctx context.Context, conn io.ReadWriteCloser, onEvent func(Event)) (*Client, error) {
	c := &Client{conn: conn, onEvent: onEvent, ready: make(chan struct{}), done: make(chan struct{}), waiting: map[uint64]chan message{}}
	go c.read()
	ctx, cancel := withDefault(ctx)
	defer cancel()
	select {
	case <-c.ready:
	case <-c.done:
		return nil, errors.Join(c.failure(), c.Close())
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("waiting for the monitor's greeting: %w", ctx.Err()), c.Close())
	}
	if err := c.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func withDefault(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, DefaultTimeout)
}

// read hands each message to whom it belongs until the connection ends.
func (c *Client) read() {
	lines := bufio.NewScanner(c.conn)
	lines.Buffer(nil, MaxMessage)
	greeted := false
	var err error
	for err == nil && lines.Scan() {
		var m message
		if m, err = decode(lines.Bytes()); err != nil {
			break
		}
		switch {
		case m.Greeting != nil:
			if greeted {
				err = fmt.Errorf("%w: a second greeting", ErrProtocol)
				break
			}
			greeted = true
			close(c.ready)
		case m.Event != "":
			if c.onEvent != nil {
				c.onEvent(Event{m.Event, m.Data, time.Unix(m.Timestamp.Seconds, m.Timestamp.Microseconds*1000)})
			}
		case m.ID == nil:
			// An error without id answers something that the server could not parse: ours never is.
			err = fmt.Errorf("%w: a reply without id", ErrProtocol)
		default:
			c.mu.Lock()
			reply := c.waiting[*m.ID] // nil if its caller gave up
			delete(c.waiting, *m.ID)
			c.mu.Unlock()
			if reply != nil {
				reply <- m
			}
		}
	}
	if err == nil {
		err = lines.Err()
	}
	if err == nil {
		err = io.EOF
	}
	c.mu.Lock()
	c.err = fmt.Errorf("%w: %w", ErrClosed, err)
	c.mu.Unlock()
	close(c.done)
}

func (c *Client) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Done is closed when the server has ended the connection or broken the protocol.
func (c *Client) Done() <-chan struct{} { return c.done }

// Execute runs a command with the given arguments (nil for none) and decodes what it returns into result (nil to drop
// it). A refusal is an *Error.
func (c *Client) Execute(ctx context.Context, command string, arguments, result any) error {
	ctx, cancel := withDefault(ctx)
	defer cancel()
	reply := make(chan message, 1)
	c.mu.Lock()
	c.nextID++
	id := c.nextID
	c.waiting[id] = reply
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()

	request, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, arguments, id})
	if err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	wrote := make(chan error, 1)
	go func() { // a server that does not read must not hold us beyond the deadline
		c.writing.Lock()
		defer c.writing.Unlock()
		_, err := c.conn.Write(append(request, '\n'))
		wrote <- err
	}()
	for {
		select {
		case err := <-wrote:
			if err != nil {
				return fmt.Errorf("QMP %s: %w: %w", command, ErrClosed, err)
			}
			wrote = nil
		case m := <-reply:
			switch {
			case m.Error != nil:
				return &Error{Command: command, Class: m.Error.Class, Desc: m.Error.Desc}
			case result != nil:
				if err := json.Unmarshal(m.Return, result); err != nil {
					return fmt.Errorf("QMP %s: %w: %w", command, ErrProtocol, err)
				}
			}
			return nil
		case <-c.done:
			select {
			case m := <-reply: // it came just before the end
				reply <- m
				continue
			default:
			}
			return fmt.Errorf("QMP %s: %w", command, c.failure())
		case <-ctx.Done():
			return fmt.Errorf("QMP %s: no answer: %w", command, ctx.Err())
		}
	}
}

// Close ends the connection and waits for the reader to end.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	return err
}
