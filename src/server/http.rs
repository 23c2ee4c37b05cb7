//! What probes, monitoring and people ask over HTTP/1.1: answered from the board, and by reads that go the way of every client's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use prost::Message;

use crate::config::{CLUSTER_VERSION, ETCD_VERSION, STORAGE_VERSION};
use crate::front::Method;
use crate::gateway::{self, Alarm, Endpoint, Facts, HttpRequest, HttpResponse, Read, Versions};
use crate::io::Tasks;
use crate::proto::etcdserverpb as pb;
use crate::pump::Internal;
use crate::reign::Board;

/// What the answers are made from.
#[derive(Clone)]
pub struct Http<T> {
    /// The board.
    pub board: Arc<Board>,
    /// The way to the front.
    pub internal: Internal,
    /// For the limit of a probe's read.
    pub tasks: T,
    /// How long a read may take.
    pub timeout: Duration,
}

impl<T: Tasks> Http<T> {
    /// The answer to one request.
    pub async fn answer(&self, request: HttpRequest) -> HttpResponse {
        let endpoint = match Endpoint::of(&request) {
            Ok(endpoint) => endpoint,
            Err(response) => return response,
        };
        match &endpoint {
            Endpoint::Version => gateway::answer_version(&Versions {
                server: ETCD_VERSION,
                cluster: Some(CLUSTER_VERSION.to_owned()),
                storage: Some(STORAGE_VERSION.to_owned()),
            }),
            Endpoint::Health { exclude, serializable } => {
                gateway::answer_health(exclude, *serializable, &self.facts(&endpoint).await)
            }
            Endpoint::Checks { checks, verbose, .. } => gateway::answer_checks(checks, *verbose, &self.facts(&endpoint).await),
            Endpoint::Metrics => HttpResponse::not_found(),
        }
    }

    async fn facts(&self, endpoint: &Endpoint) -> Facts {
        let alarm = |kind: pb::AlarmType| self.board.alarms() & (1 << kind as u32) != 0;
        let raised = [(pb::AlarmType::Nospace, Alarm::NoSpace), (pb::AlarmType::Corrupt, Alarm::Corrupt)];
        let mut facts = Facts {
            alarms: raised.into_iter().filter(|(kind, _)| alarm(*kind)).map(|(_, alarm)| alarm).collect(),
            // The one member leads as long as it runs.
            has_leader: true,
            is_learner: false,
            serializable: None,
            linearizable: None,
        };
        for read in endpoint.reads() {
            let outcome = Some(self.read(read == Read::Serializable).await);
            match read {
                Read::Serializable => facts.serializable = outcome,
                Read::Linearizable => facts.linearizable = outcome,
            }
        }
        facts
    }

    /// A read of at most one key.
    async fn read(&self, serializable: bool) -> Result<(), String> {
        let key = Bytes::from_static(b"\0");
        let request = pb::RangeRequest { key, limit: 1, keys_only: true, serializable, ..Default::default() };
        let read = async {
            let answered = self.internal.call(Method::Range, request.encode_to_vec().into()).await;
            answered.map(|_| ()).map_err(|status| status.message.into_owned())
        };
        let late = async {
            self.tasks.sleep(self.timeout).await;
            Err("etcdserver: request timed out".to_owned())
        };
        or(read, late).await
    }
}
