//! HTTP/1.1 on the client port: what probes, monitoring and people ask.
//!
//! | path | answer |
//! | --- | --- |
//! | `/health` | one JSON line, 200 or 503; alarms, leader and a read, in that order |
//! | `/livez`, `/readyz`, and one check of them as a sub-path | `ok`, or what fails |
//! | `/version` | versions as JSON |
//! | `/metrics` | Prometheus text |
//!
//! [`serve`] drives a connection and knows nothing of what is asked: an [`HttpHandler`] answers. [`Endpoint::of`] and the functions of
//! `health` make etcd's answers out of plain facts; whoever has the facts calls them.

mod health;
mod http1;
mod message;

pub use health::{Alarm, Check, Endpoint, Facts, Read, Versions, answer_checks, answer_health, answer_metrics, answer_version};
pub use http1::serve;
pub use message::{HttpHandler, HttpRequest, HttpResponse, Query};
