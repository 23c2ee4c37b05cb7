//! A stand-in for the front: it answers some methods in a way that tests can tell.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use etcring::front::{CallId, Code, Method, Status, message_prefix};
use etcring::gateway::{self, Endpoint, Facts, HttpRequest, HttpResponse, answer_checks, answer_health, answer_metrics};
use etcring::io::{Listener, Network, Tasks, Urgency};
use etcring::rpc::{Connections, Incoming, Options, Port, accept};
use etcring::runtime::Executor;

const SNAPSHOT_PIECE: usize = 32 << 10;
const SNAPSHOT_UNSENT_MAX: usize = 1 << 20;

/// The server under test.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    pub port: Port,
    pub connections: Connections<Executor>,
    /// What was reported as sent.
    pub sent: Rc<Cell<usize>>,
    cancels: Rc<Cell<usize>>,
}

impl Server {
    /// A listener on a free port, its accept loop and the stand-in for the front.
    pub fn start(executor: &Executor) -> Server {
        let listener = executor.listen("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = listener.local_address().expect("bound");
        let port = Port::new();
        let connections = Connections::new(executor.clone(), port.clone(), Options { request_bytes_max: 1536 << 10 });
        let server = Server { address, port, connections, sent: Rc::default(), cancels: Rc::default() };
        let (accepting, io) = (server.connections.clone(), executor.clone());
        executor.spawn(Urgency::Prompt, async move {
            accept(&io, &listener, |accepted| {
                let (tasks, socket) = (io.clone(), io.adopt(accepted).expect("adopted"));
                accepting.open(socket, |wire, stopping| async move {
                    gateway::serve(wire, &answer, &tasks, stopping.stopped()).await;
                });
            })
            .await;
        });
        let front = Front { server: server.clone(), snapshots: RefCell::default() };
        executor.spawn(Urgency::Prompt, async move {
            let mut events = Vec::new();
            loop {
                front.server.port.incoming(&mut events).await;
                for event in events.drain(..) {
                    front.handle(event);
                }
            }
        });
        server
    }

    /// Waits until `count` calls were cancelled, and no more.
    pub async fn cancelled(&self, executor: &Executor, count: usize) {
        while self.cancels.get() < count {
            executor.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(self.cancels.get(), count);
    }
}

/// A member that is well; POST /echo gives the body back.
async fn answer(request: HttpRequest) -> HttpResponse {
    if request.path == "/echo" {
        return HttpResponse::text(200, request.body);
    }
    let facts = Facts { has_leader: true, serializable: Some(Ok(())), linearizable: Some(Ok(())), ..Facts::default() };
    match Endpoint::of(&request) {
        Ok(Endpoint::Health { exclude, serializable }) => answer_health(&exclude, serializable, &facts),
        Ok(Endpoint::Checks { checks, verbose, .. }) => answer_checks(&checks, verbose, &facts),
        Ok(Endpoint::Metrics | Endpoint::Version) => answer_metrics("up 1\n".into()),
        Err(response) => response,
    }
}

struct Front {
    server: Server,
    /// Pieces left, and bytes under way.
    snapshots: RefCell<HashMap<CallId, (u32, usize)>>,
}

pub fn framed(message: &[u8]) -> Bytes {
    Bytes::from([&message_prefix(message.len())[..], message].concat())
}

impl Front {
    fn handle(&self, event: Incoming) {
        let port = &self.server.port;
        match event {
            Incoming::Open { call, method, message, .. } => match (method, message) {
                (Method::Put, Some(message)) => port.reply(call, framed(&message)),
                (Method::DeleteRange, _) => {
                    port.finish(call, Status::new(Code::InvalidArgument, "etcdserver: key is not provided"));
                }
                (Method::RangeStream, Some(message)) => {
                    let last = number(&message) - 1;
                    for piece in 0..last {
                        port.send(call, framed(&[piece as u8; 1000]));
                    }
                    let mut whole = framed(&[last as u8; 1000]);
                    let head = whole.split_to(400);
                    port.reply_parts(call, vec![head, whole]);
                }
                (Method::Snapshot, Some(message)) => {
                    self.snapshots.borrow_mut().insert(call, (number(&message), 0));
                    self.feed(call);
                }
                _ => {}
            },
            Incoming::Message { call, message } => port.send(call, framed(&message)),
            Incoming::HalfClose { call } => port.finish(call, Status::OK),
            Incoming::Cancel { .. } => self.server.cancels.set(self.server.cancels.get() + 1),
            Incoming::Sent { call, bytes } => {
                self.server.sent.set(self.server.sent.get() + bytes);
                if let Some((_, under_way)) = self.snapshots.borrow_mut().get_mut(&call) {
                    *under_way -= bytes;
                }
                self.feed(call);
            }
        }
    }

    fn feed(&self, call: CallId) {
        let mut snapshots = self.snapshots.borrow_mut();
        let Some((pieces, under_way)) = snapshots.get_mut(&call) else { return };
        let piece = framed(&vec![3; SNAPSHOT_PIECE]);
        while *pieces > 0 && *under_way + piece.len() <= SNAPSHOT_UNSENT_MAX {
            *pieces -= 1;
            *under_way += piece.len();
            self.server.port.send(call, piece.clone());
        }
        if *pieces == 0 {
            snapshots.remove(&call);
            self.server.port.finish(call, Status::OK);
        }
    }
}

fn number(message: &[u8]) -> u32 {
    message.try_into().map(u32::from_le_bytes).expect("four bytes")
}
