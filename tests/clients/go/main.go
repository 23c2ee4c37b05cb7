// Command clients checks a server through etcd's own Go client, as programs and API servers use it.
//
//	go build -o /tmp/clients . && /tmp/clients -endpoint 127.0.0.1:2379
//	/tmp/clients -endpoint 127.0.0.1:2379 -only kubernetes
//	/tmp/clients -endpoint 127.0.0.1:2379 -memory-of $(pidof etcring)
//
// One line a check; the last line is "N passed, N failed"; exit code 0 if none failed. Every check writes below a prefix of its own, every wait and loop is bounded.
// Some checks compact, so let nothing else use the server meanwhile.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// One check: it gets a client and a prefix that nothing else uses.
type check struct {
	name  string
	limit time.Duration
	run   func(ctx context.Context, c *clientv3.Client, prefix string) error
}

const ordinaryLimit = 30 * time.Second

func checks() []check {
	if serverProcess != 0 {
		return memoryChecks()
	}
	return slices.Concat(kvChecks(), watchChecks(), leaseChecks(), concurrencyChecks(), kubernetesChecks(), hostileChecks())
}

func main() {
	endpoint := flag.String("endpoint", "127.0.0.1:2379", "`host:port` of the server")
	flag.IntVar(&serverProcess, "memory-of", 0, "run the checks of memory instead, for a server with this process id")
	only := flag.String("only", "", "run only the checks whose name holds this")
	flag.Parse()

	run := fmt.Sprintf("clients/%d/", time.Now().UnixNano())
	passed, failed := 0, 0
	for i, check := range checks() {
		if !strings.Contains(check.name, *only) {
			continue
		}
		began := time.Now()
		err := runCheck(check, *endpoint, fmt.Sprintf("%s%02d/", run, i))
		if err != nil {
			failed++
			fmt.Printf("FAIL  %s: %v\n", check.name, err)
			continue
		}
		passed++
		fmt.Printf("ok    %s (%.1f s)\n", check.name, time.Since(began).Seconds())
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}

func runCheck(check check, endpoint, prefix string) error {
	client, err := connect(endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), check.limit)
	defer cancel()
	return check.run(ctx, client, prefix)
}

func configuration(endpoint string) clientv3.Config {
	return clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()}
}

func connect(endpoint string) (*clientv3.Client, error) { return clientv3.New(configuration(endpoint)) }

// An error with the words, unless the condition holds.
func expect(holds bool, format string, arguments ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, arguments...)
}

// The first error that is one.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
