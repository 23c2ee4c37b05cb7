package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What no well-meaning client does. Every check ends with a put and a get of somebody else, which must go on as before.
func hostileChecks() []check {
	return []check{
		{"hostile: bytes that are no HTTP/2", ordinaryLimit, garbageConnections},
		{"hostile: connections that are opened halfway", ordinaryLimit, halfOpenConnections},
		{"hostile: a client that does not read its answers", ordinaryLimit, deafClients},
		{"hostile: calls that are reset at once", ordinaryLimit, resetCalls},
		{"hostile: messages that announce more than they may", ordinaryLimit, oversizedMessages},
		{"hostile: deadlines that have all but passed", ordinaryLimit, shortDeadlines},
	}
}

// Somebody else is served.
func served(ctx context.Context, c *clientv3.Client, prefix string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	value := fmt.Sprint(time.Now().UnixNano())
	if _, err := c.Put(ctx, prefix+"served", value); err != nil {
		return fmt.Errorf("a put of another client: %w", err)
	}
	got, err := c.Get(ctx, prefix+"served")
	if err != nil {
		return fmt.Errorf("a get of another client: %w", err)
	}
	return expect(len(got.Kvs) == 1 && string(got.Kvs[0].Value) == value, "another client reads %v", got.Kvs)
}

// What the server sends until it closes the connection.
func closed(conn net.Conn) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return answer, fmt.Errorf("the connection is still open")
	}
	return answer, nil // a reset closes it too
}

func garbageConnections(ctx context.Context, c *clientv3.Client, prefix string) error {
	settings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for name, bytes := range map[string]string{
		"a frame of 16 MiB":         http2.ClientPreface + settings + "\xff\xff\xff\x00\x00\x00\x00\x00\x01",
		"headers on stream 0":       http2.ClientPreface + settings + "\x00\x00\x01\x01\x05\x00\x00\x00\x00\x82",
		"headers that are no HPACK": http2.ClientPreface + settings + "\x00\x00\x02\x01\x05\x00\x00\x00\x01\xff\xff",
		"a wrong preface":           "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", c.Endpoints()[0])
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(bytes)); err != nil {
			return err
		}
		if _, err := closed(conn); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	chance := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		conn, err := net.Dial("tcp", c.Endpoints()[0])
		if err != nil {
			return err
		}
		noise := make([]byte, 1+chance.IntN(500))
		for i := range noise {
			noise[i] = byte(chance.Uint32())
		}
		if i%2 == 0 {
			noise = append([]byte(http2.ClientPreface+settings), noise...)
		}
		conn.Write(noise) // the server may close before it has read all
		conn.Close()
	}
	return served(ctx, c, prefix)
}

func halfOpenConnections(ctx context.Context, c *clientv3.Client, prefix string) error {
	for i := range 500 {
		conn, err := net.Dial("tcp", c.Endpoints()[0])
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(http2.ClientPreface)[:i%len(http2.ClientPreface)]); err != nil {
			return err
		}
	}
	return served(ctx, c, prefix)
}

// Asks for much, many times, on a connection whose window never grows, and never reads.
func deafClients(ctx context.Context, c *clientv3.Client, prefix string) error {
	large := strings.Repeat("x", 1<<20)
	for i := range 4 {
		if _, err := c.Put(ctx, fmt.Sprint(prefix, "large/", i), large); err != nil {
			return err
		}
	}
	for range 2 {
		request := rangeMessage(prefix+"large/", clientv3.GetPrefixRangeEnd(prefix+"large/"))
		conn, err := rawCalls(c.Endpoints()[0], 50, "/etcdserverpb.KV/Range", request)
		if err != nil {
			return err
		}
		defer conn.Close()
	}
	return served(ctx, c, prefix)
}

func resetCalls(ctx context.Context, c *clientv3.Client, prefix string) error {
	conn, err := rawCalls(c.Endpoints()[0], 1, "/etcdserverpb.KV/Range", rangeMessage(prefix, ""))
	if err != nil {
		return err
	}
	defer conn.Close()
	go io.Copy(io.Discard, conn)
	framer := http2.NewFramer(conn, nil)
	block := headerBlock("/etcdserverpb.KV/Range")
	for stream := uint32(3); stream < 20_000; stream += 2 {
		err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true})
		if err == nil {
			err = framer.WriteRSTStream(stream, http2.ErrCodeCancel)
		}
		if err != nil {
			break // the server may have had enough
		}
	}
	return served(ctx, c, prefix)
}

func oversizedMessages(ctx context.Context, c *clientv3.Client, prefix string) error {
	for _, length := range []uint32{3 << 20, 1<<32 - 1} {
		prefixed := binary.BigEndian.AppendUint32([]byte{0}, length)
		conn, err := rawCalls(c.Endpoints()[0], 20, "/etcdserverpb.KV/Put", append(prefixed, make([]byte, 4096)...))
		if err != nil {
			return err
		}
		defer conn.Close()
	}
	_, err := c.Put(ctx, prefix+"k", strings.Repeat("x", 4<<20))
	if code := status.Code(err); code != codes.ResourceExhausted && !strings.Contains(fmt.Sprint(err), "larger than max") && !strings.Contains(fmt.Sprint(err), "too large") {
		return fmt.Errorf("a put of 4 MiB: %w", err)
	}
	return served(ctx, c, prefix)
}

// A put whose deadline passes is there whole or not at all, and the key's version says how many were carried out.
func shortDeadlines(ctx context.Context, c *clientv3.Client, prefix string) error {
	const count = 500
	succeeded := 0
	for i := range count {
		short, cancel := context.WithTimeout(ctx, time.Duration(i)*5*time.Microsecond)
		_, err := c.Put(short, prefix+"k", "v")
		cancel()
		switch {
		case err == nil:
			succeeded++
		case !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.DeadlineExceeded && !strings.Contains(err.Error(), "timed out"):
			return err
		}
	}
	got, err := c.Get(ctx, prefix+"k")
	if err != nil {
		return err
	}
	version := 0
	if len(got.Kvs) == 1 {
		version = int(got.Kvs[0].Version)
	}
	return firstOf(expect(version >= succeeded && version <= count, "%d puts of %d succeeded, %d were carried out", succeeded, count, version), served(ctx, c, prefix))
}
