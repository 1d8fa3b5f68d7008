//! The lanes of a claim, as the statement takes them.

use super::answer::Row;
use super::{Lane, Wanted};

/// See the module.
pub(super) struct Lanes {
    pub(super) channels: Vec<String>,
    pub(super) rooms: Vec<i32>,
    pub(super) all: Vec<String>,
}

impl Lanes {
    pub(super) fn new(wanted: &[Wanted]) -> Self {
        let has_room = wanted.iter().filter(|wanted| wanted.room > 0);
        let (channels, rooms) = has_room
            .map(|Wanted { lane, room }| {
                (
                    lane.as_str().to_owned(),
                    i32::try_from(*room).unwrap_or(i32::MAX),
                )
            })
            .unzip();
        let names = wanted.iter().filter(|wanted| wanted.lane != Lane::Unrouted);
        let all = names
            .map(|wanted| wanted.lane.as_str().to_owned())
            .collect();
        Self {
            channels,
            rooms,
            all,
        }
    }

    pub(super) fn take(&mut self, rows: &[Row]) {
        for row in rows {
            if let Some(at) = self
                .channels
                .iter()
                .position(|channel| channel == row.leased.lane.as_str())
            {
                self.rooms[at] -= 1;
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.rooms.iter().any(|room| *room <= 0)
    }
}
