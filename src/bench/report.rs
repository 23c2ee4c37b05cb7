//! The figures, for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::load::Outcome;
use super::meter::{Meter, Sample};
use super::options::Workload;

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
const MIB: f64 = (1 << 20) as f64;

/// One second, in one line.
pub fn progress(sample: &Sample) -> String {
    let rate = sample.count as f64 / sample.length.as_secs_f64().max(1e-9);
    let [p50, p99, max] = sample.latency.map(millis);
    let mut line =
        format!("{:>6.1} s  {rate:>9.0}/s  p50 {p50:>8.3}  p99 {p99:>8.3}  max {max:>8.3} ms", sample.at.as_secs_f64());
    if let Some(cpu) = sample.cpu {
        write!(line, "  server {:.2} CPU", cpu.as_secs_f64() / sample.length.as_secs_f64().max(1e-9)).expect("a string grows");
    }
    if let Some(bytes) = sample.resident {
        write!(line, " {:.0} MiB", bytes as f64 / MIB).expect("a string grows");
    }
    if sample.errors > 0 {
        write!(line, "  {} errors", sample.errors).expect("a string grows");
    }
    line
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}

/// All figures, for people.
pub fn text(workload: &Workload, outcome: &Outcome) -> String {
    let (meter, common) = (&outcome.meter, workload.common());
    let length = meter.length();
    let mut text = format!(
        "{}: {} connections, {} clients, {:.1} s\n",
        workload.name(),
        common.connections,
        common.clients(),
        length.as_secs_f64()
    );
    for (kind, histogram) in meter.kinds() {
        writeln!(text, "{kind:<12} {} answers, {:.0}/s", histogram.len(), per_second(histogram.len(), length))
            .expect("it grows");
        let quantiles = QUANTILES.map(|(name, q)| format!("{name} {:.3}", millis(histogram.value_at_quantile(q))));
        writeln!(text, "  latency ms {}  max {:.3}", quantiles.join("  "), millis(histogram.max())).expect("it grows");
    }
    if let Some(server) = meter.server() {
        writeln!(text, "server       {}", cpu(server.cpu, meter)).expect("it grows");
        let [now, max] = [server.resident, server.resident_max].map(|bytes| bytes as f64 / MIB);
        write!(text, "  resident   {now:.0} MiB at the end, {max:.0} MiB at most").expect("it grows");
        match server.resident_extra {
            Some(extra) => writeln!(text, ", {:.0} MiB more than before", extra as f64 / MIB).expect("it grows"),
            None => text.push_str(" since it started\n"),
        }
    }
    writeln!(text, "generator    {}", cpu(meter.generator(), meter)).expect("it grows");
    if matches!(workload, Workload::Range { .. } | Workload::Mixed { .. }) {
        writeln!(text, "found        {} keys", outcome.found).expect("it grows");
    }
    if let Some(tally) = outcome.watches {
        writeln!(text, "watches      {}: {} of {} events delivered", tally.watchers, tally.delivered, tally.expected)
            .expect("it grows");
        if let Some(cpu) = tally.cpu_per_event {
            writeln!(text, "  server     {:.2} µs of CPU time per event", cpu.as_secs_f64() * 1e6).expect("it grows");
        }
    }
    for (error, count) in meter.errors() {
        writeln!(text, "errors       {count} × {error}").expect("it grows");
    }
    if outcome.unanswered > 0 {
        writeln!(text, "unanswered   {} requests", outcome.unanswered).expect("it grows");
    }
    text
}

fn cpu(cpu: Duration, meter: &Meter) -> String {
    let cpus = cpu.as_secs_f64() / meter.length().as_secs_f64().max(1e-9);
    let per_second = per_second(meter.count(), cpu);
    format!("{:.3} CPU seconds ({cpus:.3} CPUs), {per_second:.0} answers per CPU second", cpu.as_secs_f64())
}

/// All figures, for programs. Times are in seconds, memory in bytes.
pub fn json(workload: &Workload, outcome: &Outcome) -> Value {
    let (meter, common) = (&outcome.meter, workload.common());
    let length = meter.length();
    let kinds = meter.kinds().map(|(kind, histogram)| (kind.to_owned(), latencies(histogram, length)));
    let used = |cpu: Duration| {
        let (seconds, cpus) = (cpu.as_secs_f64(), cpu.as_secs_f64() / length.as_secs_f64().max(1e-9));
        json!({ "cpu_seconds": seconds, "cpus": cpus, "answers_per_cpu_second": per_second(meter.count(), cpu) })
    };
    let server = meter.server().map(|server| {
        let mut json = used(server.cpu);
        json["resident_bytes"] = server.resident.into();
        json["resident_max_bytes"] = server.resident_max.into();
        json["resident_extra_bytes"] = server.resident_extra.into();
        json
    });
    let watches = outcome.watches.map(|tally| {
        json!({
            "watchers": tally.watchers,
            "expected": tally.expected,
            "delivered": tally.delivered,
            "delivered_share": tally.delivered as f64 / tally.expected.max(1) as f64,
            "cpu_seconds_per_event": tally.cpu_per_event.map(|cpu| cpu.as_secs_f64()),
        })
    });
    json!({
        "workload": workload.name(),
        "connections": common.connections,
        "clients": common.clients(),
        "rate": common.rate,
        "key_size": common.key_size,
        "value_size": common.value_size,
        "key_space": common.key_space,
        "seconds": length.as_secs_f64(),
        "kinds": kinds.collect::<serde_json::Map<String, Value>>(),
        "server": server,
        "generator": used(meter.generator()),
        "found": outcome.found,
        "watches": watches,
        "errors": meter.errors(),
        "failed": meter.errors().values().sum::<u64>() + outcome.unanswered as u64,
        "unanswered": outcome.unanswered,
        "samples": meter.samples().iter().map(sample).collect::<Vec<_>>(),
    })
}

fn latencies(histogram: &Histogram<u64>, length: Duration) -> Value {
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    let quantiles = QUANTILES.map(|(name, q)| (name.to_owned(), json!(seconds(histogram.value_at_quantile(q)))));
    let mut latency: serde_json::Map<String, Value> = quantiles.into_iter().collect();
    latency.insert("max".to_owned(), json!(seconds(histogram.max())));
    latency.insert("mean".to_owned(), json!(histogram.mean() / 1e9));
    json!({ "count": histogram.len(), "per_second": per_second(histogram.len(), length), "latency": latency })
}

fn sample(sample: &Sample) -> Value {
    let [p50, p99, max] = sample.latency.map(|nanos| nanos as f64 / 1e9);
    json!({
        "at": sample.at.as_secs_f64(),
        "per_second": per_second(sample.count, sample.length),
        "errors": sample.errors,
        "p50": p50,
        "p99": p99,
        "max": max,
        "cpus": sample.cpu.map(|cpu| cpu.as_secs_f64() / sample.length.as_secs_f64().max(1e-9)),
        "resident_bytes": sample.resident,
    })
}
