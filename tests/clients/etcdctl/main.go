// Command etcdctl is etcd's own command-line client, pinned to the release that etcring is compatible with.
package main

import "go.etcd.io/etcd/etcdctl/v3/ctlv3"

func main() { ctlv3.MustStart() }
