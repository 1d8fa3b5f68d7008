//! Whether retention has removed nothing that was unsettled.

use super::Case;
use crate::channels::route;

pub(super) fn check(case: &Case<'_>, findings: &mut Vec<String>) {
    for event in &case.evidence.stored.events {
        let Some(pruned) = event.pruned else { continue };
        let id = event.id;
        if event.pruned_early {
            findings.push(format!(
                "LOST: event {id} was removed at {pruned:?} while it was in the queue"
            ));
        }
        for &channel in route(&event.event_type) {
            let results = case.results(id, channel).iter();
            let last = results.take_while(|result| result.at <= pruned).last();
            if last.is_none_or(|last| last.status.is_none()) {
                findings.push(format!(
                    "LOST: event {id} was removed at {pruned:?} without a result for {channel}"
                ));
            }
        }
    }
}
