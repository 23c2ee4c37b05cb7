package main

// The corpus: scripts of sequences that are easy to get wrong, run before the random ones. Each runs on fresh servers.
func corpus() []sequence {
	return nil
}
