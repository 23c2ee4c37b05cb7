package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

const (
	callDeadline   = 10 * time.Second
	settleDeadline = 5 * time.Second
	expiryDeadline = 15 * time.Second
	pollInterval   = 10 * time.Millisecond
)

// One client of one server: the connection, the open streams, and what must be known of this server to make its answers comparable.
type session struct {
	server     *server
	connection *grpc.ClientConn
	normaliser normaliser
	watches    map[int]*watchStream
	keepAlive  grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]
	context    context.Context // of all streams
	cancel     context.CancelFunc
}

func connect(s *server) (*session, error) {
	connection, err := grpc.NewClient("passthrough:///"+s.address(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32), grpc.WaitForReady(true)))
	if err != nil {
		return nil, err
	}
	c := &session{server: s, connection: connection, watches: map[int]*watchStream{}}
	c.context, c.cancel = context.WithCancel(context.Background())
	// The first answer tells the ids that symbols and normalisation need.
	reply := &pb.StatusResponse{}
	if err := c.invoke("Maintenance/Status", &pb.StatusRequest{}, reply); err != nil {
		c.close()
		return nil, fmt.Errorf("%s does not answer Status: %w", s.kind.name, err)
	}
	c.normaliser.cluster, c.normaliser.member = reply.Header.GetClusterId(), reply.Header.GetMemberId()
	return c, nil
}

func (c *session) close() {
	c.cancel()
	c.connection.Close()
}

func fullMethod(method string) string { return "/etcdserverpb." + method }

func (c *session) invoke(method string, request, reply proto.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), callDeadline)
	defer cancel()
	return c.connection.Invoke(ctx, fullMethod(method), request, reply)
}

// A unary call whose numbers are already resolved.
func (c *session) call(method string, request proto.Message) answer {
	var a answer
	reply := answers[method].ProtoReflect().New().Interface()
	if err := c.invoke(method, request, reply); err != nil {
		a.fail(err)
		return a
	}
	c.normaliser.message(request, reply)
	a.messages = append(a.messages, reply)
	return a
}

// KV/RangeStream with its chunks joined: the keys of all, and header, more and count, which only the last chunk may carry.
func (c *session) rangeStream(request *pb.RangeRequest) answer {
	var a answer
	ctx, cancel := context.WithTimeout(context.Background(), callDeadline)
	defer cancel()
	stream, err := pb.NewKVClient(c.connection).RangeStream(ctx, request)
	if err != nil {
		a.fail(err)
		return a
	}
	joined := &pb.RangeResponse{}
	for last := false; ; {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			a.fail(err)
			return a
		}
		part := chunk.GetRangeResponse()
		if last {
			a.notes = append(a.notes, "a chunk after the one with the header")
		}
		last = part.GetHeader() != nil
		if !last && (part.GetMore() || part.GetCount() != 0) {
			a.notes = append(a.notes, "more or count before the last chunk")
		}
		joined.Kvs = append(joined.Kvs, part.GetKvs()...)
		joined.Header, joined.More, joined.Count = part.GetHeader(), part.GetMore(), part.GetCount()
	}
	c.normaliser.message(request, joined)
	a.messages = append(a.messages, joined)
	return a
}

func (c *session) renew(lease int64) answer {
	var a answer
	if c.keepAlive == nil {
		stream, err := pb.NewLeaseClient(c.connection).LeaseKeepAlive(c.context)
		if err != nil {
			a.fail(err)
			return a
		}
		c.keepAlive = stream
	}
	stream := c.keepAlive
	var reply *pb.LeaseKeepAliveResponse
	err := withDeadline(callDeadline, func() error {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: lease}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var err error
		reply, err = stream.Recv()
		return err
	})
	if err != nil {
		c.keepAlive = nil
		a.fail(err)
		return a
	}
	c.normaliser.message(nil, reply)
	a.messages = append(a.messages, reply)
	return a
}

var errDeadline = errors.New("no answer within the deadline")

// Runs f, but waits no longer than the limit. f may go on behind; its stream ends with the session.
func withDeadline(limit time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return errDeadline
	}
}

// Asks again and again, until the condition holds. False: not within the limit.
func eventually(limit time.Duration, condition func() bool) bool {
	deadline := time.Now().Add(limit)
	for {
		if condition() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pollInterval)
	}
}

// A grant and its revocation as one step, because a lease that lives on for two seconds would make later answers a matter of time.
func (c *session) grantAndRevoke(request *pb.LeaseGrantRequest) answer {
	a := c.call("Lease/LeaseGrant", request)
	if a.code != codes.OK {
		return a
	}
	granted := a.messages[0].(*pb.LeaseGrantResponse)
	lease := granted.ID
	if request.ID == 0 {
		a.notes = append(a.notes, fmt.Sprint("the id is positive: ", granted.ID > 0))
		granted.ID = 1
	}
	revoked := c.call("Lease/LeaseRevoke", &pb.LeaseRevokeRequest{ID: lease})
	a.messages = append(a.messages, revoked.messages...)
	a.code, a.text = revoked.code, revoked.text
	return a
}

func (c *session) awaitExpiry(lease int64) answer {
	request := &pb.LeaseTimeToLiveRequest{ID: lease}
	gone := eventually(expiryDeadline, func() bool {
		reply := &pb.LeaseTimeToLiveResponse{}
		if c.invoke("Lease/LeaseTimeToLive", request, reply) != nil || reply.TTL != -1 {
			return false
		}
		// The time to live ends before the revocation has gone through; the list of leases shrinks with it.
		list := &pb.LeaseLeasesResponse{}
		if c.invoke("Lease/LeaseLeases", &pb.LeaseLeasesRequest{}, list) != nil {
			return false
		}
		for _, one := range list.Leases {
			if one.ID == lease {
				return false
			}
		}
		return true
	})
	a := c.call("Lease/LeaseTimeToLive", request)
	a.notes = append(a.notes, fmt.Sprint("expired in time: ", gone))
	return a
}

const compactionSettled = "HashKV of the compacted revision comes from the compaction"

// After a compaction the old versions go away behind the client's back. When that is done, HashKV of the compacted revision comes from the compaction itself,
// with the revision compacted before; from then on nothing depends on the moment any more.
func (c *session) awaitCompaction(revision int64) string {
	settled := eventually(settleDeadline, func() bool {
		reply := &pb.HashKVResponse{}
		err := c.invoke("Maintenance/HashKV", &pb.HashKVRequest{Revision: revision}, reply)
		return err == nil && reply.CompactRevision < revision
	})
	if !settled {
		return "HashKV of the compacted revision does not come from the compaction"
	}
	return compactionSettled
}
