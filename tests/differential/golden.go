package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Golden files hold a history and the hashes that a real etcd answered over it, so that tests can compare without one (../data/hashkv-*.txt). Here they are
// played to a server again, and every hash is asked for anew:
//
//	rev OP;OP...        one txn: p KEY VALUE LEASE, d KEY, r KEY END (a range), f KEY (from it on)
//	compact R           a physical compaction
//	cached R C HASH     HashKV at R, answered with what the compaction from C to R went through
//	hash R C HASH       HashKV at R, compacted to C, when no compaction's hash is remembered: after a restart
type golden struct {
	server    *server
	session   *session
	leases    map[int64]bool
	remembers bool // a compaction's hash
	hashes    int
}

// Plays the files to etcd itself and to every server under test; prints a line for each.
func checkGolden(files []string, kinds []serverKind, root string) (passed, failed int) {
	for _, kind := range kinds {
		for _, file := range files {
			hashes, err := playGolden(file, kind, root)
			if err != nil {
				fmt.Printf("FAIL  %s, %s: %v\n", kind.name, filepath.Base(file), err)
				failed++
				continue
			}
			fmt.Printf("ok    %s, %s: %d hashes\n", kind.name, filepath.Base(file), hashes)
			passed++
		}
	}
	return passed, failed
}

func playGolden(file string, kind serverKind, root string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	server, err := startServer(kind, root)
	if err != nil {
		return 0, err
	}
	defer server.discard()
	g := &golden{server: server, leases: map[int64]bool{}}
	if g.session, err = connect(server); err != nil {
		return 0, err
	}
	defer func() { g.session.close() }()
	for number, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		kind, rest, _ := strings.Cut(line, " ")
		if err := g.line(kind, rest); err != nil {
			return 0, fmt.Errorf("line %d, %s: %w", number+1, line, err)
		}
	}
	if g.hashes == 0 {
		return 0, fmt.Errorf("it holds no hashes")
	}
	return g.hashes, nil
}

func (g *golden) line(kind, rest string) error {
	if kind == "rev" {
		return g.txn(strings.Split(rest, ";"))
	}
	var numbers []int64
	for _, word := range strings.Fields(rest) {
		number, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return err
		}
		numbers = append(numbers, number)
	}
	switch {
	case kind == "compact" && len(numbers) == 1:
		g.remembers = true
		request := &pb.CompactionRequest{Revision: numbers[0], Physical: true}
		return g.session.invoke("KV/Compact", request, &pb.CompactionResponse{})
	case (kind == "hash" || kind == "cached") && len(numbers) == 3:
		return g.hash(kind == "cached", numbers[0], numbers[1], uint32(numbers[2]))
	}
	return fmt.Errorf("a golden file has no such line")
}

func (g *golden) hash(cached bool, revision, compacted int64, expected uint32) error {
	if !cached && g.remembers {
		if err := g.restart(); err != nil {
			return err
		}
	}
	g.hashes++
	reply := &pb.HashKVResponse{}
	if err := g.session.invoke("Maintenance/HashKV", &pb.HashKVRequest{Revision: revision}, reply); err != nil {
		return err
	}
	if reply.Hash != expected || reply.CompactRevision != compacted || reply.HashRevision != revision {
		return fmt.Errorf("it answers %d at %d, compacted to %d", reply.Hash, reply.HashRevision, reply.CompactRevision)
	}
	return nil
}

func (g *golden) restart() error {
	g.session.close()
	if err := g.server.terminate(); err != nil {
		return err
	}
	if err := g.server.launch(); err != nil {
		return err
	}
	session, err := connect(g.server)
	if err != nil {
		return err
	}
	g.session, g.remembers = session, false
	return nil
}

func (g *golden) txn(operations []string) error {
	txn := &pb.TxnRequest{}
	for _, text := range operations {
		words := strings.Split(text, " ")
		operation, err := g.operation(words)
		if err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		txn.Success = append(txn.Success, operation)
	}
	return g.session.invoke("KV/Txn", txn, &pb.TxnResponse{})
}

func (g *golden) operation(words []string) (*pb.RequestOp, error) {
	switch {
	case words[0] == "p" && len(words) == 4:
		lease, err := strconv.ParseInt(words[3], 10, 64)
		if err != nil {
			return nil, err
		}
		if lease != 0 && !g.leases[lease] {
			g.leases[lease] = true
			grant := &pb.LeaseGrantRequest{ID: lease, TTL: leaseSeconds}
			if err := g.session.invoke("Lease/LeaseGrant", grant, &pb.LeaseGrantResponse{}); err != nil {
				return nil, err
			}
		}
		return putOp(&pb.PutRequest{Key: []byte(words[1]), Value: []byte(words[2]), Lease: lease}), nil
	case words[0] == "d" && len(words) == 2:
		return deleteOp(&pb.DeleteRangeRequest{Key: []byte(words[1])}), nil
	case words[0] == "r" && len(words) == 3:
		return deleteOp(&pb.DeleteRangeRequest{Key: []byte(words[1]), RangeEnd: []byte(words[2])}), nil
	case words[0] == "f" && len(words) == 2:
		return deleteOp(&pb.DeleteRangeRequest{Key: []byte(words[1]), RangeEnd: []byte{0}}), nil
	}
	return nil, fmt.Errorf("a golden file has no such operation")
}
