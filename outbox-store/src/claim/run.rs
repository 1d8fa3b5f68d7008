//! How many rows of one key a claim takes.

use super::Lane;
use super::answer::Row;
use std::collections::{HashMap, HashSet};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run(usize);

impl Default for Run {
    fn default() -> Self {
        Self(Self::SHORTEST)
    }
}

impl Run {
    /// Also of many keys so much is taken at once: the rows behind have to wait for a claim that
    /// comes after these are settled.
    const SHORTEST: usize = 8;
    const LONGEST: usize = 1_000;
    /// Nobody looks for rows behind.
    const ALONE: usize = 1;

    /// As the statement takes it.
    pub(super) fn length(self) -> i32 {
        i32::try_from(self.0).unwrap_or(i32::MAX)
    }

    /// The rows that a claim met in their lanes. Of a key only the first was, if those behind it came
    /// with it, from wherever they are.
    pub(super) fn met(self, rows: &[Row]) -> Vec<&Row> {
        if self.0 == Self::ALONE {
            return rows.iter().collect();
        }
        let mut first_of_key: HashMap<(&Lane, i64), &Row> = HashMap::new();
        let mut met = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(key) = row.key_hash() else {
                met.push(row);
                continue;
            };
            let first = first_of_key.entry((&row.leased.lane, key)).or_insert(row);
            if row.leased.event_id < first.leased.event_id {
                *first = row;
            }
        }
        met.extend(first_of_key.into_values());
        met
    }

    /// For the claim after one with so much room, which brought these rows: all that fit when
    /// there are few keys, and little by little less while others may have found no room. When all
    /// that it met waits for rows under way, more of fewer keys, so that those of the others are
    /// there for the next. While no key comes twice, and none had to be blocked, each row goes alone.
    pub(super) fn after(self, room: usize, rows: &[Row], has_blocked: bool) -> Self {
        let keys: Vec<i64> = rows.iter().filter_map(Row::key_hash).collect();
        let distinct = keys.iter().copied().collect::<HashSet<_>>().len();
        let next = match distinct {
            0 if rows.is_empty() && has_blocked => 2 * self.0,
            0 => return self,
            1.. if rows.len() < room => (room - (rows.len() - keys.len())) / distinct,
            1 => self.0,
            _ if distinct == keys.len() && !has_blocked => return Self(Self::ALONE),
            _ => self.0 - self.0 / 8,
        };
        Self(next.clamp(Self::SHORTEST, Self::LONGEST))
    }
}
