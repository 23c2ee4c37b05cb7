//! What comes before a load: connections, and keys.

use std::cell::Cell;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::channel::Channel;
use super::keys::key;
use super::options::Common;
use super::requests::{PUT, RANGE, Routes, Values};
use crate::front::frame;
use crate::io::{Clock, Tasks, Urgency};
use crate::proto::etcdserverpb as pb;
use crate::runtime::Executor;

/// Puts under way at a time while the key space is filled.
const FILL_CLIENTS: usize = 256;
/// How long is waited between two tries to reach a server.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// Opens the connections, with --wait when the server answers.
///
/// # Errors
/// No server is there.
pub async fn connect(executor: &Executor, common: &Common) -> Result<Vec<Routes>, String> {
    let mut addresses = Vec::new();
    for endpoint in &common.endpoints {
        let address = resolve(endpoint).map_err(|error| format!("endpoint {endpoint}: {error}"))?;
        wait(executor, common, address).await.map_err(|error| format!("endpoint {endpoint}: {error}"))?;
        addresses.push(address);
    }
    let mut routes = Vec::new();
    for (endpoint, address) in common.endpoints.iter().zip(&addresses).cycle().take(common.connections) {
        let channel = Channel::connect(executor, *address).await.map_err(|error| format!("endpoint {endpoint}: {error}"))?;
        routes.push(Routes::new(channel));
    }
    Ok(routes)
}

fn resolve(endpoint: &str) -> Result<SocketAddr, String> {
    if endpoint.starts_with("https://") {
        return Err("https is not there yet".to_owned());
    }
    let host = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
    let found = host.to_socket_addrs().map_err(|error| error.to_string())?.next();
    found.ok_or_else(|| "the name has no address".to_owned())
}

/// Puts every key of the key space once.
///
/// # Errors
/// A put failed.
pub async fn fill(executor: &Executor, common: &Common, routes: &[Routes]) -> Result<(), String> {
    let next = Rc::new(Cell::new(0));
    let (done, finished) = flume::unbounded();
    for client in 0..FILL_CLIENTS {
        let (next, routes, common, done) = (next.clone(), routes[client % routes.len()].clone(), common.clone(), done.clone());
        executor.spawn(Urgency::Prompt, async move {
            let mut values = Values::new(common.value_size, client);
            while next.get() < common.key_space {
                let index = next.replace(next.get() + 1);
                let key = key(&common.prefix, common.key_size, index).into();
                let put = frame(&pb::PutRequest { key, value: values.next(), ..Default::default() });
                if let Err(error) = routes.ask((PUT, put)).await {
                    next.set(u64::MAX);
                    done.send(Err(error.to_string())).ok();
                    return;
                }
            }
            done.send(Ok(())).ok();
        });
    }
    drop(done);
    while let Ok(result) = finished.recv_async().await {
        result.map_err(|error: String| format!("filling the key space: {error}"))?;
    }
    Ok(())
}

/// Asks the server for a key until it answers, for --wait at most.
async fn wait(executor: &Executor, common: &Common, address: SocketAddr) -> Result<(), String> {
    let until = executor.now() + common.wait;
    while !common.wait.is_zero() {
        let answer = match Channel::connect(executor, address).await {
            Ok(channel) => {
                let range = pb::RangeRequest { key: Bytes::from_static(b"\0"), ..Default::default() };
                Routes::new(channel).ask((RANGE, frame(&range))).await
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok(_) => return Ok(()),
            Err(error) if executor.now() >= until => return Err(format!("no answer for {:?}: {error}", common.wait)),
            Err(_) => executor.sleep(TRY_AGAIN).await,
        }
    }
    Ok(())
}
