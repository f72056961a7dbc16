//! A total rate of updates that was asked for: whose turn it is.

use std::time::Duration;

use crate::tools::demo::device::Device;

/// A total rate of updates that was asked for.
#[derive(Debug)]
pub(super) struct Rate {
    updates_per_s: f64,
    /// What may be told now of the lively measures.
    budget: f64,
    /// What may be told now of all others.
    states: f64,
    /// The lively measures of all devices, and which is next.
    lively: Vec<(usize, usize)>,
    next: usize,
}

impl Rate {
    pub(super) fn new(updates_per_s: f64, devices: &[Device]) -> Rate {
        let lively = devices.iter().enumerate().flat_map(|(device, of)| {
            let measures = of.measures.iter().enumerate();
            measures
                .filter(|(_, measure)| measure.lively)
                .map(move |(measure, _)| (device, measure))
        });
        Rate {
            updates_per_s,
            budget: 0.0,
            states: 0.0,
            lively: lively.collect(),
            next: 0,
        }
    }

    /// How many states may be told: they get half of the budget at most.
    pub(super) fn room(&mut self, passed: Duration) -> usize {
        self.states += self.updates_per_s / 2.0 * passed.as_secs_f64();
        self.states = self.states.min(self.updates_per_s.max(1.0));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturating is right
        let room = self.states as usize;
        room
    }

    /// The measures whose turn it is, by device, `told` of the budget being spent already.
    pub(super) fn draw(&mut self, passed: Duration, told: usize) -> Vec<(usize, Vec<usize>)> {
        #[allow(clippy::cast_precision_loss)] // a tick's worth
        let spent = told as f64;
        self.states -= spent;
        self.budget += self.updates_per_s * passed.as_secs_f64() - spent;
        // After a pause there is no flood.
        self.budget = self.budget.clamp(-self.updates_per_s, self.updates_per_s);
        let mut drawn: Vec<(usize, Vec<usize>)> = Vec::new();
        while self.budget >= 1.0 {
            let Some(&(device, measure)) = self.lively.get(self.next) else {
                break;
            };
            self.budget -= 1.0;
            self.next = (self.next + 1) % self.lively.len();
            match drawn.last_mut() {
                Some((last, measures))
                    if *last == device
                        && measures.len() < BURST_UPDATES_MAX
                        && !measures.contains(&measure) =>
                {
                    measures.push(measure);
                }
                _ => drawn.push((device, vec![measure])),
            }
        }
        drawn
    }
}

/// The largest burst of a device that is told to hurry.
const BURST_UPDATES_MAX: usize = 12;
