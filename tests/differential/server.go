package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startDeadline = 30 * time.Second
	stopDeadline  = 15 * time.Second
	logLinesKept  = 40
	readyPhrase   = "ready to serve client requests"
)

// How a server process is started.
type serverKind struct {
	name    string   // for people: "etcd", "etcring shards=4"
	program string   // path of the executable
	prefix  []string // arguments before the common ones, such as the subcommand "peer"
	extra   []string // arguments after the common ones, such as --shards 4
	isEtcd  bool     // etcd raises SIGTERM again after a clean stop, in place of exit code 0
}

func (k serverKind) with(extra []string) serverKind {
	k.extra = append(k.extra[:len(k.extra):len(k.extra)], extra...)
	return k
}

// One running server process and the directory that holds its data.
type server struct {
	kind       serverKind
	dir        string
	clientPort int
	peerPort   int
	process    *exec.Cmd
	exited     chan struct{} // closed when the process is gone

	mu    sync.Mutex
	log   []string // the newest lines of its output
	ready chan struct{}
}

// Every process that this program has started and not yet seen end, so that an interrupt leaves none behind.
var running struct {
	sync.Mutex
	servers map[*server]bool
	closed  bool // no more may be started
}

func init() { running.servers = map[*server]bool{} }

// Starts a server on an empty data directory below root, on free loopback ports, and waits until it is ready.
func startServer(kind serverKind, root string) (*server, error) {
	dir, err := os.MkdirTemp(root, "server-")
	if err != nil {
		return nil, err
	}
	s := &server{kind: kind, dir: dir}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	s.clientPort, s.peerPort = ports[0], ports[1]
	if err := s.launch(); err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

func (s *server) clientURL() string { return fmt.Sprintf("http://127.0.0.1:%d", s.clientPort) }
func (s *server) address() string   { return fmt.Sprintf("127.0.0.1:%d", s.clientPort) }

// Runs the process on the directory and ports of s. Called again for a restart.
func (s *server) launch() error {
	peerURL := fmt.Sprintf("http://127.0.0.1:%d", s.peerPort)
	arguments := append([]string{}, s.kind.prefix...)
	arguments = append(arguments,
		"--data-dir", filepath.Join(s.dir, "data"),
		"--listen-client-urls", s.clientURL(),
		"--advertise-client-urls", s.clientURL(),
		"--listen-peer-urls", peerURL,
		"--initial-advertise-peer-urls", peerURL,
		"--initial-cluster", "default="+peerURL)
	arguments = append(arguments, s.kind.extra...)

	s.process = exec.Command(s.kind.program, arguments...)
	s.process.Env = withoutEtcdVariables(os.Environ())
	s.process.Dir = s.dir
	s.exited, s.ready = make(chan struct{}), make(chan struct{})
	stderr, err := s.process.StderrPipe()
	if err != nil {
		return err
	}
	s.process.Stdout = nil
	if err := s.start(); err != nil {
		return fmt.Errorf("%s does not start: %w", s.kind.name, err)
	}
	process, exited, ready := s.process, s.exited, s.ready
	go func() {
		s.readLog(bufio.NewReaderSize(stderr, 1<<16), ready)
		process.Wait()
		running.Lock()
		delete(running.servers, s)
		running.Unlock()
		close(exited)
	}()

	deadline := time.NewTimer(startDeadline)
	defer deadline.Stop()
	select {
	case <-s.ready:
		return nil
	case <-s.exited:
		return fmt.Errorf("%s ended before it was ready:\n%s", s.kind.name, s.recentLog())
	case <-deadline.C:
		s.kill()
		return fmt.Errorf("%s was not ready within %s:\n%s", s.kind.name, startDeadline, s.recentLog())
	}
}

func (s *server) start() error {
	running.Lock()
	defer running.Unlock()
	if running.closed {
		return errors.New("interrupted")
	}
	if err := s.process.Start(); err != nil {
		return err
	}
	running.servers[s] = true
	return nil
}

func (s *server) readLog(reader *bufio.Reader, ready chan struct{}) {
	isReady := false
	for {
		line, err := reader.ReadString('\n')
		if line = strings.TrimRight(line, "\n"); line != "" {
			if len(line) > 600 {
				line = line[:600] + " ..."
			}
			s.mu.Lock()
			s.log = append(s.log, line)
			if len(s.log) > logLinesKept {
				s.log = s.log[1:]
			}
			s.mu.Unlock()
			if !isReady && strings.Contains(line, readyPhrase) {
				isReady = true
				close(ready)
			}
		}
		if err != nil {
			return
		}
	}
}

func (s *server) recentLog() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "    " + strings.Join(s.log, "\n    ")
}

// Whether the process has ended by itself.
func (s *server) isGone() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

func (s *server) endsWithin(limit time.Duration) bool {
	select {
	case <-s.exited:
		return true
	case <-time.After(limit):
		return false
	}
}

// Asks the server to stop and waits for it. An error if it does not, or if it ends with another code than 0.
func (s *server) terminate() error {
	s.process.Process.Signal(syscall.SIGTERM)
	deadline := time.NewTimer(stopDeadline)
	defer deadline.Stop()
	select {
	case <-s.exited:
	case <-deadline.C:
		s.kill()
		return fmt.Errorf("%s did not stop within %s of SIGTERM", s.kind.name, stopDeadline)
	}
	state := s.process.ProcessState
	status, ok := state.Sys().(syscall.WaitStatus)
	if state.ExitCode() == 0 || (s.kind.isEtcd && ok && status.Signaled() && status.Signal() == syscall.SIGTERM) {
		return nil
	}
	return fmt.Errorf("%s ended with %s after SIGTERM:\n%s", s.kind.name, state, s.recentLog())
}

// Ends the process at once and waits until it is gone.
func (s *server) kill() {
	s.process.Process.Signal(syscall.SIGKILL)
	<-s.exited
}

// Ends the process, if it still runs, and removes its directory.
func (s *server) discard() {
	if s.process != nil && s.process.Process != nil {
		s.kill()
	}
	os.RemoveAll(s.dir)
}

// Ends every process that is still running, and lets no other start: for an interrupt of this program.
func killAll() {
	running.Lock()
	defer running.Unlock()
	running.closed = true
	for s := range running.servers {
		s.process.Process.Signal(syscall.SIGKILL)
		os.RemoveAll(s.dir)
	}
}

// The ports that servers get: below those that systems give to outgoing connections, one of which could take a server's port before it
// listens, or while it is down.
const (
	firstPort = 10000
	portCount = 20000
)

var givenPorts struct {
	sync.Mutex
	offset int // a random place to begin at, since other programs' servers may be about
	count  int
}

func init() { givenPorts.offset = rand.Intn(portCount) }

// Ports on which nobody listens. None is given twice.
func freePorts(count int) ([]int, error) {
	givenPorts.Lock()
	defer givenPorts.Unlock()
	var ports []int
	for len(ports) < count {
		if givenPorts.count == portCount {
			return nil, errors.New("all ports for servers were given")
		}
		port := firstPort + (givenPorts.offset+givenPorts.count)%portCount
		givenPorts.count++
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		listener.Close()
		ports = append(ports, port)
	}
	return ports, nil
}

// A variable such as ETCD_NAME would change the server, or stop it where a flag says the same.
func withoutEtcdVariables(environment []string) []string {
	var kept []string
	for _, variable := range environment {
		if !bytes.HasPrefix([]byte(variable), []byte("ETCD_")) && !strings.HasPrefix(variable, "ETCRING_") {
			kept = append(kept, variable)
		}
	}
	return kept
}
