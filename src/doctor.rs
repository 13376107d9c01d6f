//! `av-edge doctor`: says whether this host is a good place for a relay.

use relay::{Finding, Level};
use serde_json::json;

use crate::cli::DoctorArgs;
use crate::failure::Failure;
use crate::output::print;

/// Looks, and prints what was found; the exit status tells whether something is in the way.
pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let config = args.config.as_deref().map(relay::Config::from_file).transpose();
    let config = config.map_err(Failure::setup)?;
    let found = relay::examine(config.as_ref());
    let in_words = if args.json { object } else { words };
    print(&found.iter().flat_map(in_words).collect::<Vec<_>>())?;
    if found.iter().any(|it| it.level == Level::Problem) { Err(Failure::No) } else { Ok(()) }
}

fn words(finding: &Finding) -> Vec<String> {
    let Finding { subject, level, words, advice } = finding;
    let first = format!("{:<8} {subject:<12} {words}", level.name());
    let advice = advice.iter().map(|advice| format!("{:<21} {advice}", ""));
    std::iter::once(first).chain(advice).collect()
}

fn object(finding: &Finding) -> Vec<String> {
    let Finding { subject, level, words, advice } = finding;
    let it = json!({"subject": subject, "level": level.name(), "words": words, "advice": advice});
    vec![it.to_string()]
}
