package main

import (
	"fmt"
	"os"
	"strings"
)

// One sequence of steps with a name: a script of the corpus, or a seed.
type sequence struct {
	name  string
	steps []step
	extra []string // arguments for both servers
}

// Makes pairs of fresh servers. The next ones start while those before are in use, because starting, which is mostly waiting, takes longer than most runs.
type pool struct {
	peer, candidate serverKind
	root            string
	next            chan startedPair
	hashes          bool // the server under test has HashKV
}

type startedPair struct {
	peer, candidate *server
	err             error
}

func newPool(peer, candidate serverKind, root string, ahead int) *pool {
	p := &pool{peer: peer, candidate: candidate, root: root, next: make(chan startedPair, ahead)}
	for range ahead {
		p.prepare()
	}
	return p
}

func (p *pool) prepare() {
	go func() { p.next <- p.start(nil) }()
}

func (p *pool) start(extra []string) startedPair {
	candidate := make(chan startedPair, 1)
	go func() {
		server, err := startServer(p.candidate.with(extra), p.root)
		candidate <- startedPair{candidate: server, err: err}
	}()
	peer, err := startServer(p.peer.with(extra), p.root)
	other := <-candidate
	if err == nil {
		err = other.err
	}
	return startedPair{peer, other.candidate, err}
}

// Servers with extra arguments are not kept ready.
func (p *pool) take(extra []string) startedPair {
	if len(extra) > 0 {
		return p.start(extra)
	}
	taken := <-p.next
	p.prepare()
	return taken
}

func (p startedPair) discard() {
	for _, server := range []*server{p.peer, p.candidate} {
		if server != nil {
			server.discard()
		}
	}
}

func (p *pool) close() {
	for range cap(p.next) {
		(<-p.next).discard()
	}
}

// Runs the steps on fresh servers. The first difference, if there is one; an error if the servers do not even start.
func (p *pool) run(steps []step, extra []string, trace bool) (*difference, error) {
	servers := p.take(extra)
	defer servers.discard()
	if servers.err != nil {
		return nil, servers.err
	}
	pair, err := newPair(servers.peer, servers.candidate)
	if err != nil {
		return nil, err
	}
	defer func() { pair.close() }()
	pair.hashes, pair.trace = p.hashes, trace
	for i, step := range append(steps[:len(steps):len(steps)], step{kind: stepDrain}) {
		if trace {
			fmt.Fprintf(os.Stderr, "%5d revision %d: %s\n", i, pair.meaning.current, step)
		}
		if d := pair.do(step); d != nil {
			d.index, d.step = i, step
			return d, nil
		}
	}
	return nil, nil
}

func (d *difference) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "at step %d: %s\n", d.index, d.step)
	if d.sent != "" {
		fmt.Fprintf(&text, "  sent:    %s\n", d.sent)
	}
	fmt.Fprintf(&text, "  differs: %s\n", d.why)
	if d.expected != "" || d.actual != "" {
		fmt.Fprintf(&text, "  etcd:    %s\n", indent(d.expected))
		fmt.Fprintf(&text, "  etcring: %s\n", indent(d.actual))
	}
	return text.String()
}

func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n           ") }
