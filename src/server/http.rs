//! What probes, monitoring and people ask over HTTP/1.1: answered from the board, and by reads that go the way of every client's.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use prost::Message;

use crate::base::{MemberId, Revision};
use crate::config::{CLUSTER_VERSION, ETCD_VERSION, ETCRING_VERSION, STORAGE_VERSION};
use crate::front::{Method, alarm_bit};
use crate::gateway::{self, Alarm, Check, Endpoint, Facts, HttpRequest, HttpResponse, Read, Versions};
use crate::io::Tasks;
use crate::metrics::{self, Counter, HealthCheck, MemberFigures, Reader};
use crate::proto::etcdserverpb as pb;
use crate::pump::{Internal, Metering};
use crate::reign::Board;

use super::process::read_process_figures;

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
    /// The meters of this executor.
    pub metering: Rc<Metering>,
    /// What all executors have counted.
    pub readers: Arc<[Reader]>,
    /// This member.
    pub member: MemberId,
    /// --quota-backend-bytes, its default put in; negative: none.
    pub quota_bytes: i64,
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
                let answer = gateway::answer_health(exclude, *serializable, &self.facts(&endpoint).await);
                let outcome = if answer.status == 200 { Counter::HealthSuccesses } else { Counter::HealthFailures };
                self.metering.recorder().add(outcome, 1);
                answer
            }
            Endpoint::Checks { kind, checks, verbose } => {
                let facts = self.facts(&endpoint).await;
                for check in checks {
                    self.metering.recorder().checked(counted(kind, *check), check.run(&facts).is_ok());
                }
                gateway::answer_checks(checks, *verbose, &facts)
            }
            Endpoint::Metrics => {
                gateway::answer_metrics(metrics::render(&self.readers, &self.figures(), &read_process_figures()))
            }
        }
    }

    fn alarms(&self) -> impl Iterator<Item = (Alarm, &'static str)> {
        let raised = self.board.alarms();
        let kinds = [(pb::AlarmType::Nospace, Alarm::NoSpace), (pb::AlarmType::Corrupt, Alarm::Corrupt)];
        let raised = kinds.into_iter().filter(move |(kind, _)| raised & alarm_bit(*kind) != 0);
        raised.map(|(kind, alarm)| (alarm, kind.as_str_name()))
    }

    fn figures(&self) -> MemberFigures {
        let leads = self.metering.leads();
        let compacted = Some(self.board.compact_floor()).filter(|floor| *floor > Revision::ZERO);
        MemberFigures {
            member: self.member,
            server_version: ETCD_VERSION,
            cluster_version: CLUSTER_VERSION.rsplit_once('.').map_or(CLUSTER_VERSION, |(minor, _)| minor).to_owned(),
            etcring_version: ETCRING_VERSION,
            has_leader: leads,
            is_leader: leads,
            is_learner: false,
            revision: self.metering.stable(),
            compact_revision: compacted,
            quota_bytes: self.quota_bytes,
            alarms: self.alarms().map(|(_, name)| (self.member, name)).collect(),
        }
    }

    async fn facts(&self, endpoint: &Endpoint) -> Facts {
        let mut facts = Facts {
            alarms: self.alarms().map(|(alarm, _)| alarm).collect(),
            has_leader: self.metering.leads(),
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

/// The name of a check in the metrics.
fn counted(kind: &str, check: Check) -> HealthCheck {
    match (kind, check) {
        ("livez", _) => HealthCheck::LiveSerializableRead,
        (_, Check::DataCorruption) => HealthCheck::ReadyDataCorruption,
        (_, Check::LinearizableRead) => HealthCheck::ReadyLinearizableRead,
        (_, Check::NonLearner) => HealthCheck::ReadyNonLearner,
        (_, Check::SerializableRead) => HealthCheck::ReadySerializableRead,
    }
}
