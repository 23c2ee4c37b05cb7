//! The front against fake cores and a naive model of etcd's store, by seeds.

mod cores;
mod ends_test;
mod history_test;
mod lease_test;
mod model;
mod requests;
mod room_test;
mod watch_test;
mod world;
