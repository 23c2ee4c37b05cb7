package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// What a server's memory may come to, and that its other clients do not notice. These checks need the server's process id.
func memoryChecks() []check {
	return []check{
		{"memory: 10,000 idle connections cost less than 300 MB, and puts go on", 3 * time.Minute, idleConnections},
		{"memory: a stalled watcher behind 1 GiB of events costs at most 64 MiB, and gets every one", 8 * time.Minute, stalledWatcher},
		{"memory: a range delete of more than the page cache may hold ends, while others write", 2 * time.Minute, coldDelete},
	}
}

// The process whose memory counts; 0: these checks are not run.
var serverProcess int

const (
	mebibyte          = 1 << 20
	idleCount         = 10_000
	idleResidentMax   = 300_000_000
	stalledTotal      = 1 << 30
	stalledValue      = mebibyte
	stalledWarmUp     = 640 // values, before the watch begins: more than the page cache holds
	stalledCostMax    = 64 * mebibyte
	stalledWindow     = 64 << 10
	putsTimed         = 1000
	slowdownMax       = 3 // times the median before
	slowdownForgiving = 2 * time.Millisecond
)

// Resident memory in bytes. Files that are mapped count; the server maps none but its program.
func resident() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", serverProcess))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", serverProcess)
}

// Takes the greatest value of resident until it is told to stop.
func watchResident() (stop func() (int64, error)) {
	done, result := make(chan struct{}), make(chan struct{})
	var highest int64
	var failed error
	go func() {
		defer close(result)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			now, err := resident()
			highest, failed = max(highest, now), firstOf(failed, err)
			select {
			case <-ticker.C:
			case <-done:
				return
			}
		}
	}()
	return func() (int64, error) {
		close(done)
		<-result
		return highest, failed
	}
}

func report(format string, arguments ...any) { fmt.Printf("      "+format+"\n", arguments...) }

// The median and the longest of so many puts, one after the other.
func timePuts(ctx context.Context, c *clientv3.Client, key string, count int) (median, longest time.Duration, err error) {
	took := make([]time.Duration, count)
	for i := range took {
		began := time.Now()
		if _, err := c.Put(ctx, key, "x"); err != nil {
			return 0, 0, err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[count/2], took[count-1], nil
}

// A connection as an idle grpc client holds it: preface and settings are exchanged, nothing else.
func idleConnection(endpoint string) (net.Conn, error) {
	conn, err := net.Dial("tcp", endpoint)
	if err != nil {
		return nil, err
	}
	if _, err = conn.Write([]byte(http2.ClientPreface)); err != nil {
		return conn, err
	}
	framer := http2.NewFramer(conn, conn)
	if err = framer.WriteSettings(); err != nil {
		return conn, err
	}
	for range 8 {
		frame, err := framer.ReadFrame()
		if err != nil {
			return conn, err
		}
		if settings, ok := frame.(*http2.SettingsFrame); ok && !settings.IsAck() {
			return conn, framer.WriteSettingsAck()
		}
	}
	return conn, fmt.Errorf("the server sends no settings")
}

func idleConnections(ctx context.Context, c *clientv3.Client, prefix string) error {
	before, err := resident()
	if err != nil {
		return err
	}
	medianBefore, longestBefore, err := timePuts(ctx, c, prefix+"k", putsTimed)
	if err != nil {
		return err
	}
	endpoint := c.Endpoints()[0]
	var mu sync.Mutex
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	const dialers = 16
	err = inParallel(dialers, func(int) error {
		for range idleCount / dialers {
			conn, err := idleConnection(endpoint)
			if conn != nil {
				mu.Lock()
				open = append(open, conn)
				mu.Unlock()
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	median, longest, err := timePuts(ctx, c, prefix+"k", putsTimed)
	if err != nil {
		return err
	}
	with, err := resident()
	if err != nil {
		return err
	}
	report("resident: %d MB before, %d MB with %d connections", before/1e6, with/1e6, len(open))
	report("put: median %v, longest %v before; median %v, longest %v with them", medianBefore, longestBefore, median, longest)
	// They are alive: each one answers a ping.
	for _, conn := range open[:100] {
		if err := pinged(conn); err != nil {
			return err
		}
	}
	return firstOf(
		expect(len(open) == idleCount, "%d connections", len(open)),
		expect(with < idleResidentMax, "%d bytes are resident", with),
		expect(median < slowdownMax*medianBefore+slowdownForgiving, "a put took %v before, %v with them", medianBefore, median),
	)
}

func pinged(conn net.Conn) error {
	framer := http2.NewFramer(conn, conn)
	if err := framer.WritePing(false, [8]byte{1}); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(ordinaryLimit)); err != nil {
		return err
	}
	for range 8 {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		if ping, ok := frame.(*http2.PingFrame); ok && ping.IsAck() {
			return nil
		}
	}
	return fmt.Errorf("no answer to a ping")
}

// The value of number i: recognisable, and of the size that counts.
func stalledContent(i int) []byte {
	value := bytes.Repeat([]byte{byte(i)}, stalledValue)
	binary.BigEndian.PutUint64(value, uint64(i))
	return value
}

func stalledWatcher(ctx context.Context, c *clientv3.Client, prefix string) error {
	const keys, count = 16, stalledTotal / stalledValue
	write := func(i int) (int64, error) {
		put, err := c.Put(ctx, fmt.Sprintf("%sk%02d", prefix, i%keys), string(stalledContent(i)))
		if err != nil {
			return 0, err
		}
		return put.Header.Revision, nil
	}
	for i := range stalledWarmUp {
		if _, err := write(i); err != nil {
			return err
		}
	}
	before, err := resident()
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(c.Endpoints()[0], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithInitialWindowSize(stalledWindow),
		grpc.WithInitialConnWindowSize(stalledWindow), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64*mebibyte)))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		return err
	}
	create := &pb.WatchCreateRequest{Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix))}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
		return err
	}
	if created, err := stream.Recv(); err != nil || !created.Created {
		return fmt.Errorf("the watch is not created: %v, %w", created, err)
	}
	// From here on nothing is read from the stream.
	stop := watchResident()
	revisions := make([]int64, count)
	for i := range revisions {
		if revisions[i], err = write(i); err != nil {
			return err
		}
	}
	highest, err := stop()
	if err != nil {
		return err
	}
	report("resident: %d MiB before, at most %d MiB behind %d MiB of events", before/mebibyte, highest/mebibyte, stalledTotal/mebibyte)
	stop = watchResident()
	began := time.Now()
	for got := 0; got < count; {
		response, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("after %d of %d events: %w", got, count, err)
		}
		for _, event := range response.Events {
			content := stalledContent(got)
			if event.Kv.ModRevision != revisions[got] || !bytes.Equal(event.Kv.Value, content) {
				return fmt.Errorf("event %d is of revision %d, and not of %d", got, event.Kv.ModRevision, revisions[got])
			}
			got++
		}
	}
	catchingUp, err := stop()
	if err != nil {
		return err
	}
	report("it had all %d events after %v; resident meanwhile at most %d MiB", count, time.Since(began).Round(time.Millisecond), catchingUp/mebibyte)
	return firstOf(
		expect(highest-before <= stalledCostMax, "%d bytes more are resident", highest-before),
		expect(catchingUp-before <= stalledCostMax, "%d bytes more are resident while it catches up", catchingUp-before),
	)
}

// Some 40 MB of keys. Whether they are in the page cache is up to --cache-bytes; with 16 MiB most are not.
func coldDelete(ctx context.Context, c *clientv3.Client, prefix string) error {
	const keys, inOneTxn, fillers, writers = 200_000, 100, 16, 4
	value := strings.Repeat("v", 200)
	err := inParallel(fillers, func(filler int) error {
		for i := filler; i < keys/inOneTxn; i += fillers {
			var puts []clientv3.Op
			for j := range inOneTxn {
				puts = append(puts, clientv3.OpPut(fmt.Sprintf("%smany/%06d", prefix, i*inOneTxn+j), value))
			}
			if _, err := c.Txn(ctx).Then(puts...).Commit(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	done := make(chan struct{})
	writing := make(chan error, 1)
	go func() {
		writing <- inParallel(writers, func(writer int) error {
			for i := 0; ; i++ {
				select {
				case <-done:
					return nil
				default:
				}
				if _, err := c.Put(ctx, fmt.Sprintf("%sother/%d/%d", prefix, writer, i%100), "x"); err != nil {
					return err
				}
			}
		})
	}()
	began := time.Now()
	deleted, err := c.Delete(ctx, prefix+"many/", clientv3.WithPrefix())
	close(done)
	if err := firstOf(err, <-writing); err != nil {
		return err
	}
	report("%d keys were deleted within %v", deleted.Deleted, time.Since(began).Round(time.Millisecond))
	return expect(deleted.Deleted == keys, "%d keys were deleted", deleted.Deleted)
}
