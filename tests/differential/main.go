// Command differential feeds a real etcd 3.7.1 and a server under test with the same requests, one after the other, and compares every answer
// field by field, errors and their codes included.
//
//	go build -o /tmp/differential .
//	/tmp/differential -server ../../target/release/etcring -shards 1,4,16 -seeds 1-5 -requests 2000
//	/tmp/differential -server self          # etcd against itself: must show no difference
//	/tmp/differential -server PATH -corpus only -only lease   # the scripts whose name holds "lease"
//	/tmp/differential -server self -corpus only -only lease -jobs 1 -trace   # what etcd answers to each step of them
//	/tmp/differential -server PATH -golden ../data/hashkv-1.txt,../data/hashkv-2.txt   # recorded hashes, compared with etcd's of today and with the server's
//	/tmp/differential peer --data-dir ...   # this binary is etcd 3.7.1
//
// For each number of shards it runs the corpus (scripts of tricky sequences, corpus_*.go), then random sequences, one a seed, each on two fresh servers with free
// loopback ports and temporary directories. At a difference it prints both answers, shrinks the sequence to a short one that still shows a difference, and prints that.
// Exit code 0: no difference; 1: differences; 2: it could not run. Last line: "N passed, N failed".
//
// What is not compared, and why, stands in known.go; docs/differences.md is its twin for people.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

type options struct {
	server         string
	serverArgs     string
	shards         string
	seeds          string
	requests       int
	corpus         string
	only           string
	without        string
	failures       int
	jobs           int
	shrinkAttempts int
	shrinkTime     time.Duration
	directory      string
	golden         string
	verbose        bool
	trace          bool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "peer" {
		etcdmain.Main(append([]string{os.Args[0]}, os.Args[2:]...))
		return
	}
	var o options
	flag.StringVar(&o.server, "server", "", "path of the server under test, or `self` for etcd itself")
	flag.StringVar(&o.serverArgs, "server-args", "", "more arguments for the server under test, separated by spaces")
	flag.StringVar(&o.shards, "shards", "1,4,16", "values of --shards to run with; empty: do not pass --shards")
	flag.StringVar(&o.seeds, "seeds", "1-5", "seeds of random sequences: 7, 1-5 or 1,3,9-12; empty: none")
	flag.IntVar(&o.requests, "requests", 2000, "steps of each random sequence")
	flag.StringVar(&o.corpus, "corpus", "yes", "the scripts: `yes`, no, or only")
	flag.StringVar(&o.only, "only", "", "run only the scripts whose name holds this")
	flag.StringVar(&o.without, "without", "", "leave out steps that begin with one of these, such as `Maintenance/HashKV,KV/RangeStream,restart`: for a server that is not finished")
	flag.IntVar(&o.failures, "failures", 1, "stop after so many failures; 0: never")
	flag.IntVar(&o.jobs, "jobs", 2, "sequences to run at the same time, each on its own servers")
	flag.IntVar(&o.shrinkAttempts, "shrink-attempts", 150, "runs that shrinking one sequence may take; 0: do not shrink")
	flag.DurationVar(&o.shrinkTime, "shrink-time", 3*time.Minute, "time that shrinking one sequence may take")
	flag.StringVar(&o.directory, "dir", os.TempDir(), "where the servers' data goes")
	flag.StringVar(&o.golden, "golden", "", "play these golden files, separated by commas, to etcd and to the servers under test, and nothing else")
	flag.BoolVar(&o.verbose, "v", false, "a line for every sequence that passes")
	flag.BoolVar(&o.trace, "trace", false, "print every step before it is done, and etcd's answers to it")
	flag.Parse()
	os.Exit(run(o))
}

func run(o options) int {
	if o.server == "" {
		fmt.Fprintln(os.Stderr, "differential: -server PATH is needed (or -server self); see -help")
		return 2
	}
	o.jobs = max(o.jobs, 1)
	root, err := os.MkdirTemp(o.directory, "differential-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "differential:", err)
		return 2
	}
	defer os.RemoveAll(root)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		killAll()
		os.RemoveAll(root)
		os.Exit(2)
	}()

	seeds, err := parseSeeds(o.seeds)
	if err != nil {
		fmt.Fprintln(os.Stderr, "differential:", err)
		return 2
	}
	peer, candidates, err := kinds(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "differential:", err)
		return 2
	}
	if o.golden != "" {
		passed, failed := checkGolden(strings.Split(o.golden, ","), append([]serverKind{peer}, candidates...), root)
		fmt.Printf("%d passed, %d failed\n", passed, failed)
		if failed > 0 {
			return 1
		}
		return 0
	}
	r := &runner{options: o, root: root, peer: peer}
	for _, candidate := range candidates {
		if !r.candidate(candidate, seeds) {
			break
		}
	}
	fmt.Printf("%d passed, %d failed\n", r.passed, r.failed)
	switch {
	case r.broken:
		return 2
	case r.failed > 0 || r.passed == 0:
		return 1
	}
	return 0
}

// The peer, and the server under test with each number of shards.
func kinds(o options) (peer serverKind, candidates []serverKind, err error) {
	self, err := os.Executable()
	if err != nil {
		return peer, nil, err
	}
	peer = serverKind{name: "etcd", program: self, prefix: []string{"peer"}, extra: []string{"--unsafe-no-fsync"}, isEtcd: true}
	extra := strings.Fields(o.serverArgs)
	if o.server == "self" {
		other := peer
		other.name, other.extra = "etcd again", append(other.extra, extra...)
		return peer, []serverKind{other}, nil
	}
	program, err := filepath.Abs(o.server)
	if err != nil {
		return peer, nil, err
	}
	if _, err := os.Stat(program); err != nil {
		return peer, nil, err
	}
	if o.shards == "" {
		return peer, []serverKind{{name: filepath.Base(program), program: program, extra: extra, isEtcd: true}}, nil
	}
	for _, shards := range strings.Split(o.shards, ",") {
		candidates = append(candidates, serverKind{name: "etcring shards=" + shards, program: program, extra: append([]string{"--shards", shards}, extra...)})
	}
	return peer, candidates, nil
}

func parseSeeds(text string) ([]uint64, error) {
	const seedsMax = 100_000
	var seeds []uint64
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.ParseUint(first, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("-seeds: %w", err)
		}
		to := from
		if isRange {
			if to, err = strconv.ParseUint(last, 10, 64); err != nil {
				return nil, fmt.Errorf("-seeds: %w", err)
			}
		}
		if to < from || to-from > seedsMax {
			return nil, fmt.Errorf("-seeds: %s is no range of at most %d", part, seedsMax)
		}
		for seed := from; seed <= to; seed++ {
			seeds = append(seeds, seed)
		}
	}
	return seeds, nil
}

type runner struct {
	options        options
	root           string
	peer           serverKind
	mu             sync.Mutex // guards what follows
	passed, failed int
	broken         bool // a server could not even be started
}

// Runs everything against one server under test. False: no more should be run.
func (r *runner) candidate(kind serverKind, seeds []uint64) bool {
	var sequences []sequence
	if r.options.corpus != "no" {
		for _, script := range corpus() {
			if strings.Contains(script.name, r.options.only) {
				sequences = append(sequences, script)
			}
		}
	}
	if r.options.corpus != "only" && r.options.only == "" {
		for _, seed := range seeds {
			sequences = append(sequences, sequence{name: fmt.Sprint("seed ", seed), steps: generate(seed, r.options.requests)})
		}
	}
	for i := range sequences {
		sequences[i].steps = leaveOut(sequences[i].steps, r.options.without)
	}
	servers := newPool(r.peer, kind, r.root, r.options.jobs+1)
	servers.hashes = !strings.Contains(r.options.without, "HashKV")
	defer servers.close()
	queue := make(chan sequence)
	var workers sync.WaitGroup
	for range r.options.jobs {
		workers.Go(func() {
			for sequence := range queue {
				if r.mayGoOn() {
					r.sequence(servers, kind, sequence)
				}
			}
		})
	}
	for _, sequence := range sequences {
		queue <- sequence
	}
	close(queue)
	workers.Wait()
	return r.mayGoOn()
}

// The steps that begin with none of the words.
func leaveOut(steps []step, words string) []step {
	var kept []step
	for _, step := range steps {
		text := step.String()
		if !slices.ContainsFunc(strings.FieldsFunc(words, func(r rune) bool { return r == ',' }), func(word string) bool { return strings.HasPrefix(text, word) }) {
			kept = append(kept, step)
		}
	}
	return kept
}

func (r *runner) mayGoOn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.broken && (r.options.failures == 0 || r.failed < r.options.failures)
}

func (r *runner) sequence(servers *pool, kind serverKind, sequence sequence) {
	name := kind.name + ", " + sequence.name
	began := time.Now()
	found, err := servers.run(sequence.steps, sequence.extra, r.options.trace)
	var text strings.Builder
	switch {
	case err != nil:
		fmt.Fprintf(&text, "FAIL  %s: %v\n", name, err)
	case found != nil:
		fmt.Fprintf(&text, "FAIL  %s\n%s", name, found)
		if r.options.shrinkAttempts > 0 {
			r.shrink(&text, servers, sequence, found)
		}
	case r.options.verbose:
		fmt.Fprintf(&text, "ok    %s (%d steps, %.1f s)\n", name, len(sequence.steps), time.Since(began).Seconds())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Print(text.String())
	r.broken = r.broken || err != nil
	if err != nil || found != nil {
		r.failed++
	} else {
		r.passed++
	}
}

func (r *runner) shrink(text io.Writer, servers *pool, sequence sequence, found *difference) {
	again := func(steps []step) (*difference, error) { return servers.run(steps, sequence.extra, false) }
	steps, shrunk := shrink(again, sequence.steps, found, r.options.shrinkAttempts, r.options.shrinkTime)
	fmt.Fprintf(text, "shortest sequence found, %d steps:\n", len(steps))
	for i, step := range steps {
		fmt.Fprintf(text, "  %3d  %s\n", i, step)
	}
	fmt.Fprintf(text, "with it the difference is %s", shrunk)
}
