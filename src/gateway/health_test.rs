use super::super::message::Query;
use super::*;

fn get(path: &str) -> HttpRequest {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    HttpRequest { method: "GET".into(), path: path.into(), query: Query::parse(query), ..HttpRequest::default() }
}

fn answer(path: &str, facts: &Facts) -> (u16, String) {
    let response = match Endpoint::of(&get(path)) {
        Ok(Endpoint::Health { exclude, serializable }) => answer_health(&exclude, serializable, facts),
        Ok(Endpoint::Checks { checks, verbose, .. }) => answer_checks(&checks, verbose, facts),
        Ok(other) => panic!("{path} is {other:?}"),
        Err(response) => response,
    };
    (response.status, String::from_utf8(response.body.to_vec()).expect("UTF-8"))
}

fn well() -> Facts {
    Facts { has_leader: true, serializable: Some(Ok(())), linearizable: Some(Ok(())), ..Facts::default() }
}

#[test]
fn health_tells_the_first_thing_that_is_wrong() {
    assert_eq!(answer("/health", &well()), (200, r#"{"health":"true","reason":""}"#.into()));
    let ill = |reason: &str| (503, format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"));
    let failed = Some(Err("etcdserver: request timed out".to_owned()));
    let no_leader = Facts { has_leader: false, linearizable: failed, ..well() };
    assert_eq!(answer("/health", &no_leader), ill("RAFT NO LEADER"));
    assert_eq!(answer("/health?serializable=true", &no_leader).0, 200);
    let slow = Facts { has_leader: true, ..no_leader };
    assert_eq!(answer("/health", &slow), ill("RANGE ERROR:etcdserver: request timed out"));
    let full = Facts { alarms: vec![Alarm::NoSpace], ..well() };
    assert_eq!(answer("/health", &full), ill("ALARM NOSPACE"));
    assert_eq!(answer("/health?exclude=NOSPACE", &full).0, 200);
    let corrupt = Facts { alarms: vec![Alarm::NoSpace, Alarm::Corrupt], ..well() };
    assert_eq!(answer("/health?exclude=NOSPACE", &corrupt), ill("ALARM CORRUPT"));
    assert_eq!(answer("/health?exclude=NOSPACE&exclude=CORRUPT", &corrupt).0, 200);
    assert_eq!(answer("/health", &Facts { alarms: vec![Alarm::Other], ..well() }), ill("ALARM UNKNOWN"));
}

#[test]
fn readyz_and_livez_run_their_checks() {
    assert_eq!(answer("/livez", &well()), (200, "ok\n".into()));
    assert_eq!(answer("/livez?verbose", &well()), (200, "[+]serializable_read ok\nok\n".into()));
    let lines = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    assert_eq!(answer("/readyz?verbose", &well()), (200, lines.into()));
    let stuck = Facts { linearizable: Some(Err("timed out".into())), alarms: vec![Alarm::Corrupt, Alarm::NoSpace], ..well() };
    let lines = "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n[-]linearizable_read failed: timed out\n\
                 [+]non_learner ok\n\n";
    assert_eq!(answer("/readyz", &stuck), (503, lines.into()));
    assert_eq!(answer("/readyz?exclude=linearizable_read&exclude=data_corruption&exclude=no", &stuck), (200, "ok\n".into()));
    assert_eq!(answer("/readyz/serializable_read", &stuck), (200, "ok\n".into()));
    assert_eq!(answer("/readyz/linearizable_read", &stuck), (503, "[-]linearizable_read failed: timed out\n\n".into()));
    assert_eq!(answer("/livez", &stuck).0, 200);
    let learner = Facts { is_learner: true, ..well() };
    assert_eq!(answer("/readyz/non_learner", &learner).1, "[-]non_learner failed: not supported for learner\n\n");
}

#[test]
fn other_paths_and_methods_are_refused() {
    for path in ["/", "/health/", "/livez/", "/livez/non_learner", "/readyzx", "/readyz/x", "/v3/kv/range"] {
        assert_eq!(answer(path, &well()), (404, "404 page not found\n".into()), "{path}");
    }
    for method in ["POST", "HEAD"] {
        let response = Endpoint::of(&HttpRequest { method: method.into(), ..get("/health") }).expect_err("refused");
        assert_eq!((response.status, &response.body[..]), (405, &b"Method Not Allowed\n"[..]));
        assert!(response.headers.contains(&("Allow", "GET".into())));
    }
    assert_eq!(Endpoint::of(&HttpRequest { method: "HEAD".into(), ..get("/metrics") }), Ok(Endpoint::Metrics));
}

#[test]
fn only_the_reads_that_count_are_asked_for() {
    let reads = |path| Endpoint::of(&get(path)).expect("ours").reads();
    assert_eq!(reads("/health"), [Read::Linearizable]);
    assert_eq!(reads("/health?serializable=true"), [Read::Serializable]);
    assert_eq!(reads("/livez"), [Read::Serializable]);
    assert_eq!(reads("/readyz"), [Read::Serializable, Read::Linearizable]);
    assert_eq!(reads("/readyz?exclude=linearizable_read"), [Read::Serializable]);
    assert_eq!(reads("/version"), []);
}

#[test]
fn versions_are_json_on_one_line() {
    let decided = Versions { server: "3.7.1", cluster: Some("3.7.0".into()), storage: Some("3.7.0".into()) };
    let response = answer_version(&decided);
    assert_eq!(&response.body[..], br#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#);
    assert_eq!(response.content_type, "application/json");
    let early = answer_version(&Versions { server: "3.7.1", cluster: None, storage: None });
    assert_eq!(&early.body[..], br#"{"etcdserver":"3.7.1","etcdcluster":"not_decided","storage":"unknown"}"#);
    assert_eq!(json_string("a<b>&\"\n"), r#""a\u003cb\u003e\u0026\"\n""#);
}
