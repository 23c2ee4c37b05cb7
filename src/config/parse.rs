//! Arguments and variables into settings, by Go's `flag` rules and etcd's `SetFlagsFromEnv`.

use super::go::{self, go_quote};
use super::settings::{Config, Settings};
use super::table::{Class, FLAGS, Flag, GATES, Kind, OWN_PREFIX, find};
use super::url::Url;
use std::collections::BTreeSet;
use std::fmt;

/// The exit code for a command line that Go's `flag` package would not read.
pub const EXIT_USAGE: u8 = 2;
/// The exit code for a command line that can be read but not followed.
pub const EXIT_REFUSED: u8 = 1;

/// Variables with etcd's prefix that are not flags' (or, the first, not one that may be set): neither used nor warned of.
const SPECIAL_VARIABLES: [&str; 3] = ["ETCD_VERSION", "ETCD_UNSUPPORTED_ARCH", "ETCD_VERIFY"];

/// Why the member does not start with this command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// [`EXIT_USAGE`]: write the message and [`super::USAGE`] to stderr as they are. [`EXIT_REFUSED`]: log it.
    pub exit_code: u8,
    /// One line. etcd's own words where etcd refuses it too.
    pub message: String,
}

impl ConfigError {
    pub(super) fn usage(message: impl Into<String>) -> ConfigError {
        ConfigError { exit_code: EXIT_USAGE, message: message.into() }
    }

    pub(super) fn refused(message: impl Into<String>) -> ConfigError {
        ConfigError { exit_code: EXIT_REFUSED, message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// What the command line asks for.
#[derive(Clone, PartialEq, Debug)]
pub enum Parsed {
    /// Start the member; log the warnings first, each as a line of its own.
    Run(Box<Config>, Vec<String>),
    /// Print [`super::version`] on stdout and exit with 0.
    Version,
    /// Print [`super::USAGE`] on stderr and [`super::help`] on stdout, and exit with 0.
    Help,
}

/// A value as its flag's kind reads it.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Uint(u64),
    /// Nanoseconds.
    Duration(i64),
    Text(String),
    Urls(Vec<Url>),
}

/// Reads the arguments (without the program's name) and the environment.
///
/// # Errors
/// See [`ConfigError`]; the first thing that is wrong, in etcd's order.
pub fn parse(args: &[String], env: impl IntoIterator<Item = (String, String)>) -> Result<Parsed, ConfigError> {
    let mut settings = Settings::default();
    match read_arguments(&mut settings, args)? {
        Arguments::Read => {}
        Arguments::Help => return Ok(Parsed::Help),
    }
    if settings.bool("version") {
        return Ok(Parsed::Version);
    }
    let mut warnings = read_environment(&mut settings, env.into_iter().collect())?;
    warnings.extend(accepted_warnings(&settings));
    let config = Config::from_settings(&settings, &mut warnings)?;
    Ok(Parsed::Run(Box::new(config), warnings))
}

enum Arguments {
    Read,
    Help,
}

fn read_arguments(settings: &mut Settings, args: &[String]) -> Result<Arguments, ConfigError> {
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(body) = arg.strip_prefix('-').filter(|b| !b.is_empty()) else {
            return Err(positional(arg));
        };
        if body == "-" {
            return rest.next().map_or(Ok(Arguments::Read), |positional_arg| Err(positional(positional_arg)));
        }
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.starts_with(['-', '=']) {
            return Err(ConfigError::usage(format!("bad flag syntax: {arg}")));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(index) = find(name) else {
            if name == "help" || name == "h" {
                return Ok(Arguments::Help);
            }
            return Err(ConfigError::usage(format!("flag provided but not defined: -{name}")));
        };
        let flag = &FLAGS[index];
        let value = match value {
            Some(value) => value,
            None if flag.kind.stands_alone() => "true",
            None => rest.next().ok_or_else(|| ConfigError::usage(format!("flag needs an argument: -{name}")))?,
        };
        settings.set(index, flag, value).map_err(|why| ConfigError::usage(wrong_value(flag, value, &why)))?;
    }
    Ok(Arguments::Read)
}

fn positional(arg: &str) -> ConfigError {
    ConfigError::refused(format!("{} is not a valid flag", go_quote(arg)))
}

fn wrong_value(flag: &Flag, value: &str, why: &str) -> String {
    let kind = if flag.kind == Kind::Bool { "boolean value" } else { "value" };
    let link = if flag.kind == Kind::Bool { "for" } else { "for flag" };
    format!("invalid {kind} {} {link} -{}: {why}", go_quote(value), flag.name)
}

/// etcd's `SetFlagsFromEnv` and `verifyEnv`, for its own prefix and for ours. Answers with the warnings.
fn read_environment(settings: &mut Settings, env: Vec<(String, String)>) -> Result<Vec<String>, ConfigError> {
    let mut warnings = Vec::new();
    let by_variable: Vec<(usize, String)> = FLAGS.iter().enumerate().map(|(i, f)| (i, f.variable())).collect();
    let env: Vec<_> = env.into_iter().filter(|(v, _)| !SPECIAL_VARIABLES.contains(&v.as_str())).collect();
    for (variable, _) in &env {
        let shadowed = by_variable.iter().any(|(index, v)| v == variable && settings.is_set(*index));
        if shadowed {
            return Err(ConfigError::refused(format!(
                "conflicting environment variable is shadowed by corresponding command-line flag \
                 (either unset environment variable or disable flag)): {variable}"
            )));
        }
    }
    for (variable, value) in &env {
        if let Some((index, _)) = by_variable.iter().find(|(_, v)| v == variable && !value.is_empty()) {
            let flag = &FLAGS[*index];
            settings
                .set(*index, flag, value)
                .map_err(|why| ConfigError::refused(format!("invalid value {} for {variable}: {why}", go_quote(value))))?;
        } else if variable.starts_with("ETCD_") || variable.strip_prefix(OWN_PREFIX).is_some_and(|r| r.starts_with('_')) {
            warnings.push(format!("unrecognized environment variable {variable}={value}"));
        }
    }
    Ok(warnings)
}

/// One line for every flag that is set and has no effect here.
fn accepted_warnings(settings: &Settings) -> Vec<String> {
    FLAGS
        .iter()
        .enumerate()
        .filter(|(index, flag)| flag.class == Class::Accepted && settings.is_set(*index))
        .map(|(_, flag)| match flag.kind {
            Kind::Former => format!("flag is no longer supported - ignoring: --{}", flag.name),
            _ => format!("--{} is accepted but has no effect in etcring", flag.name),
        })
        .collect()
}

/// Reads one value by its flag's kind. `None`: the value leaves what was set before (an empty list of URLs).
pub(super) fn read_value(kind: Kind, text: &str) -> Result<Option<Value>, String> {
    let number = |e: go::NumberError| e.text().to_owned();
    Ok(Some(match kind {
        Kind::Bool => Value::Bool(go::parse_bool(text).ok_or("parse error")?),
        Kind::Former => Value::Text(String::new()),
        Kind::Int => Value::Int(go::parse_int(text).map_err(number)?),
        Kind::Uint => Value::Uint(go::parse_uint(text, 64).map_err(number)?),
        Kind::Bytes => {
            let (digits, unit) = split_unit(text);
            let bytes = go::parse_uint(digits, 64).map_err(number)?.checked_mul(unit as u64);
            Value::Uint(bytes.ok_or(go::NumberError::Range).map_err(number)?)
        }
        Kind::SignedBytes => {
            let (digits, unit) = split_unit(text);
            let bytes = go::parse_int(digits).map_err(number)?.checked_mul(unit);
            Value::Int(bytes.ok_or(go::NumberError::Range).map_err(number)?)
        }
        Kind::Uint32 => Value::Uint(go::parse_uint(text, 32).map_err(|e| {
            let why = if e == go::NumberError::Syntax { "invalid syntax" } else { e.text() };
            format!("strconv.ParseUint: parsing {}: {why}", go_quote(text))
        })?),
        Kind::Duration => Value::Duration(go::parse_duration(text).map_err(|_| "parse error")?),
        Kind::Text => Value::Text(text.to_owned()),
        Kind::Urls | Kind::Origins if text.is_empty() => return Ok(None),
        Kind::Origins if text == "*" => Value::Text(text.to_owned()),
        Kind::Urls | Kind::Origins => Value::Urls(Url::parse_list(text)?),
        Kind::Choice(words) if words.contains(&text) => Value::Text(text.to_owned()),
        Kind::Choice(_) => return Err("invalid value".to_owned()),
        Kind::Choices(words) => {
            if let Some(wrong) = text.split(',').find(|w| !words.contains(w)) {
                return Err(format!("invalid value {}", go_quote(wrong)));
            }
            Value::Text(text.to_owned())
        }
        Kind::Gates => {
            check_gates(text)?;
            Value::Text(text.to_owned())
        }
    }))
}

/// A number and what its unit stands for.
fn split_unit(text: &str) -> (&str, i64) {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    let found = units.iter().find_map(|(name, bytes)| Some((text.strip_suffix(name)?, *bytes)));
    found.unwrap_or((text, 1))
}

fn check_gates(text: &str) -> Result<(), String> {
    let mut unknown = BTreeSet::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("missing bool value for {}", part.trim()))?;
        let (name, value) = (name.trim(), value.trim());
        if go::parse_bool(value).is_none() {
            let why = format!("strconv.ParseBool: parsing {}: invalid syntax", go_quote(value));
            return Err(format!("invalid value of {name}={value}, err: {why}"));
        }
        if !GATES.contains(&name) {
            unknown.insert(name);
        }
    }
    unknown.first().map_or(Ok(()), |name| Err(format!("unrecognized feature gate: {name}")))
}
