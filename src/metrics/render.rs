//! The text of /metrics.

use super::cells::{Reader, Sums};
use super::family::{Family, join};
use super::figures::{MemberFigures, ProcessFigures};
use super::names::{APPLY, Counter, Gauge, HealthCheck, Histogram, Operation, RANGE, REQUEST, Type};
use super::rpc::{CODES, ROWS, Rpc};

/// Writes everything: the sums over the cores, and the figures of the moment.
pub fn render(cores: &[Reader], member: &MemberFigures, process: &ProcessFigures) -> String {
    let sums = Sums(cores);
    let mut families = Vec::new();
    counted(&mut families, &sums);
    durations(&mut families, &sums);
    calls(&mut families, &sums);
    checks(&mut families, &sums);
    of_member(&mut families, member);
    of_process(&mut families, process);
    join(families)
}

fn counted(families: &mut Vec<Family>, sums: &Sums) {
    for counter in Counter::ALL {
        let row = counter.row();
        families.push(Family::single(row.name, row.declared, row.help, sums.counter(*counter) as f64));
    }
    for gauge in Gauge::ALL {
        let row = gauge.row();
        families.push(Family::single(row.name, Type::Gauge, row.help, sums.gauge(*gauge) as f64));
    }
}

fn durations(families: &mut Vec<Family>, sums: &Sums) {
    for histogram in Histogram::ALL {
        families.push(Family::of_histogram(histogram.row(), &sums.histogram(*histogram)));
    }
    let mut requests = Family::new(REQUEST.name, Type::Histogram, REQUEST.help);
    let mut operations: Vec<Operation> = Operation::ALL.to_vec();
    operations.sort_by_key(|o| *o.row());
    // As in etcd, a series begins with its first observation.
    let mut any = false;
    for (success, word) in [(false, "false"), (true, "true")] {
        for operation in &operations {
            let total = sums.requests(*operation, success);
            if total.count() > 0 {
                requests.histogram(REQUEST.scale, &[("success", word), ("type", *operation.row())], &total);
                any = true;
            }
        }
    }
    families.extend(any.then_some(requests));
    let mut ranges = Family::new(RANGE.name, Type::Histogram, RANGE.help);
    let seen = [(false, "false"), (true, "true")].map(|(success, word)| (word, sums.ranges(success)));
    let seen = seen.iter().filter(|(_, total)| total.count() > 0);
    seen.clone().for_each(|(word, total)| ranges.histogram(RANGE.scale, &[("success", *word)], total));
    families.extend((seen.count() > 0).then_some(ranges));
    let total = sums.applies();
    let mut applies = Family::new(APPLY.name, Type::Histogram, APPLY.help);
    applies.histogram(APPLY.scale, &[("op", "Batch"), ("success", "true"), ("version", "v3")], &total);
    families.extend((total.count() > 0).then_some(applies));
}

/// grpc-prometheus' four families, every series from the start, and etcd's count by client version.
fn calls(families: &mut Vec<Family>, sums: &Sums) {
    let new = |name, help| Family::new(name, Type::Counter, help);
    let mut started = new("grpc_server_started_total", "Calls that have begun.");
    let mut handled = new("grpc_server_handled_total", "Calls that have ended, by status code.");
    let mut received = new("grpc_server_msg_received_total", "Messages received on calls.");
    let mut sent = new("grpc_server_msg_sent_total", "Messages sent on calls.");
    let labels = |rpc: Rpc| {
        let row = &ROWS[rpc.place()];
        [("grpc_method", row.method), ("grpc_service", row.service), ("grpc_type", row.kind)]
    };
    let mut rpcs: Vec<Rpc> = Rpc::all().collect();
    rpcs.sort_by_key(|r| labels(*r));
    let mut codes: Vec<usize> = (0..CODES.len()).collect();
    codes.sort_by_key(|c| CODES[*c]);
    for code in codes {
        for rpc in &rpcs {
            let [method, service, kind] = labels(*rpc);
            handled.series(&[("grpc_code", CODES[code]), method, service, kind], sums.handled(*rpc, code) as f64);
        }
    }
    for rpc in rpcs {
        started.series(&labels(rpc), sums.started(rpc) as f64);
        received.series(&labels(rpc), sums.received(rpc) as f64);
        sent.series(&labels(rpc), sums.sent(rpc) as f64);
    }
    families.extend([started, handled, received, sent]);
    let clients = sums.clients();
    if !clients.is_empty() {
        let mut requests =
            new("etcd_server_client_requests_total", "Calls begun, by kind and by the API version that the client tells.");
        for (version, kind, n) in clients {
            requests.series(&[("client_api_version", &version), ("type", kind.row())], n as f64);
        }
        families.push(requests);
    }
}

fn checks(families: &mut Vec<Family>, sums: &Sums) {
    let ran: Vec<(HealthCheck, bool)> =
        HealthCheck::ALL.iter().filter_map(|c| sums.last_check(*c).map(|ok| (*c, ok))).collect();
    if ran.is_empty() {
        return;
    }
    let mut last = Family::new("etcd_server_healthcheck", Type::Gauge, "1 if the check succeeded when it last ran, else 0.");
    let mut all = Family::new("etcd_server_healthchecks_total", Type::Counter, "Runs of the check, by outcome.");
    for (check, ok) in ran {
        let row = check.row();
        last.series(&[("name", row.name), ("type", row.endpoint)], f64::from(u8::from(ok)));
        for (success, status) in [(false, "error"), (true, "success")] {
            let runs = sums.checks(check, success);
            if runs > 0 {
                all.series(&[("name", row.name), ("status", status), ("type", row.endpoint)], runs as f64);
            }
        }
    }
    families.extend([last, all]);
}

fn of_member(families: &mut Vec<Family>, member: &MemberFigures) {
    let mut gauge = |name, help: &str, value: f64| families.push(Family::single(name, Type::Gauge, help, value));
    let flag = |b: bool| f64::from(u8::from(b));
    gauge("etcd_server_has_leader", "1 if there is a leader, else 0.", flag(member.has_leader));
    gauge("etcd_server_is_leader", "1 if this member is the leader, else 0.", flag(member.is_leader));
    gauge("etcd_server_is_learner", "1 if this member is a learner, else 0.", flag(member.is_learner));
    gauge("etcd_server_quota_backend_bytes", "The quota of the store in bytes, negative for none.", member.quota_bytes as f64);
    gauge("etcd_debugging_mvcc_current_revision", "The current revision.", member.revision.get() as f64);
    let compacted = member.compact_revision.map_or(-1.0, |r| r.get() as f64);
    gauge("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction, -1 before the first.", compacted);
    let id = format!("{:x}", member.member.get());
    for (name, label, value, help) in [
        ("etcd_server_id", "server_id", id.as_str(), "1 for the id of this member, in hexadecimal."),
        ("etcd_server_version", "server_version", member.server_version, "1 for the version of etcd that this member speaks."),
        ("etcd_cluster_version", "cluster_version", &member.cluster_version, "1 for the version of the cluster."),
        ("etcring_version", "version", member.etcring_version, "1 for the version of etcring."),
    ] {
        let mut family = Family::new(name, Type::Gauge, help);
        family.series(&[(label, value)], 1.0);
        families.push(family);
    }
    if !member.alarms.is_empty() {
        let mut alarms = Family::new("etcd_debugging_server_alarms", Type::Gauge, "1 for each active alarm.");
        for (of, alarm) in &member.alarms {
            alarms.series(&[("alarm_type", alarm), ("server_id", &format!("{:x}", of.get()))], 1.0);
        }
        families.push(alarms);
    }
}

fn of_process(families: &mut Vec<Family>, process: &ProcessFigures) {
    let whole = |n: Option<u64>| n.map(|n| n as f64);
    for (name, declared, value, help) in [
        (
            "process_cpu_seconds_total",
            Type::Counter,
            process.cpu_seconds,
            "CPU time of the process in seconds, user and system.",
        ),
        ("process_start_time_seconds", Type::Gauge, process.start_seconds, "When the process started, in Unix seconds."),
        ("process_resident_memory_bytes", Type::Gauge, whole(process.resident_bytes), "Resident memory in bytes."),
        ("process_virtual_memory_bytes", Type::Gauge, whole(process.virtual_bytes), "Address space in use, in bytes."),
        (
            "process_virtual_memory_max_bytes",
            Type::Gauge,
            whole(process.virtual_bytes_max),
            "The limit of the address space in bytes.",
        ),
        ("process_open_fds", Type::Gauge, whole(process.open_fds), "Open file descriptors."),
        ("process_max_fds", Type::Gauge, whole(process.max_fds), "The limit of open file descriptors."),
        ("os_fd_used", Type::Gauge, whole(process.open_fds), "File descriptors in use."),
        ("os_fd_limit", Type::Gauge, whole(process.max_fds), "The limit of file descriptors."),
        (
            "process_network_receive_bytes_total",
            Type::Counter,
            whole(process.network_received_bytes),
            "Bytes received on the network interfaces that the process sees.",
        ),
        (
            "process_network_transmit_bytes_total",
            Type::Counter,
            whole(process.network_sent_bytes),
            "Bytes sent on the network interfaces that the process sees.",
        ),
    ] {
        families.extend(value.map(|v| Family::single(name, declared, help, v)));
    }
}
